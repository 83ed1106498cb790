"""What changes while a stage runs is found when it ends; what DVC would not record otherwise is not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages.core import recorded
from stages.core.errors import run
from stages.core.recorded import STAGE, Inputs

ROOT = Path(__file__).parents[2]
GRAPH = """
stages:
  features:
    foreach: ${backbones}
    do:
      cmd: python -m stages.features ${key}
      params: [threads, features.engine]
      deps:
        - data/weights/${key}
        - ${data.source}
        - data/table.csv
        - stages/core
        - stages/features.py
      outs:
        - data/features/${key}
        - data/index.csv: {cache: false}
"""
PARAMS = "threads: 2\nfeatures: {engine: auto, batch: 3}\ndata: {source: ../images}\n"
FILES = {
    "dvc.yaml": GRAPH,
    "params.yaml": PARAMS,
    ".dvcignore": "# the comment\n\n.*.partial\n__pycache__\n",
    "data/weights/vgg16/a.bin": "a",
    "data/weights/resnet50/a.bin": "a",
    "data/table.csv": "1",
    "stages/core/files.py": "x = 1",
    "stages/features.py": "y = 1",
    "../images/cat/0.jpg": "0",
    "../images/cat/1.jpg": "1",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv(STAGE, "features@vgg16")
    monkeypatch.setattr(recorded, "_STARTED", 2**62)
    return folder


def write(name: str, text: str) -> Callable[[], object]:
    """Return what writes a file, not in place, so that even its size and date may be those of before."""

    def do() -> None:
        path, new = Path(name), Path("new")
        path.parent.mkdir(exist_ok=True)
        new.write_text(text)
        if path.exists():
            os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        new.replace(path)

    return do


CHANGES: dict[str, tuple[Callable[[], object], list[str]]] = {
    "a parameter": (write("params.yaml", PARAMS.replace("2", "4")), ["'threads' in params.yaml"]),
    "a nested parameter": (write("params.yaml", PARAMS.replace("auto", "x")), ["'features.engine' in params.yaml"]),
    "a parameter removed": (write("params.yaml", PARAMS[11:]), ["'threads' in params.yaml"]),
    "no longer YAML": (write("params.yaml", "a: ["), ["'threads' in params.yaml", "'features.engine' in params.yaml"]),
    "code": (write("stages/features.py", "y = 2"), ["'stages/features.py'"]),
    "code in a folder": (write("stages/core/files.py", "x = 2"), ["'stages/core'"]),
    "new code": (write("stages/core/new.py", ""), ["'stages/core'"]),
    "an image, of the same size and date": (write("../images/cat/0.jpg", "9"), ["'../images'"]),
    "an image added": (write("../images/cat/2.jpg", "0"), ["'../images'"]),
    "a hidden file added": (write("../images/.DS_Store", "0"), ["'../images'"]),
    "a class whose name is in a comment on what DVC ignores": (write("../images/the/0.jpg", "0"), ["'../images'"]),
    "an image removed": (lambda: Path("../images/cat/0.jpg").unlink(), ["'../images'"]),
    "an image renamed": (lambda: Path("../images/cat/0.jpg").rename("../images/cat/9.jpg"), ["'../images'"]),
    "the source moved away": (lambda: Path("../images").rename("../moved"), ["'../images'"]),
    "a result of another stage": (write("data/weights/vgg16/a.bin", "b"), ["'data/weights/vgg16'"]),
    "a file of another stage": (write("data/table.csv", "2"), ["'data/table.csv'"]),
}
NO_CHANGES: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "a parameter of another stage": write("params.yaml", PARAMS.replace("3", "4")),
    "a comment": write("params.yaml", f"# why\n{PARAMS}"),
    "code that is touched": lambda: Path("stages/features.py").touch(),
    "code that is changed back": lambda: (
        write("stages/features.py", "y = 2")(),
        write("stages/features.py", "y = 1")(),
    ),
    "code of another stage": write("stages/split.py", ""),
    "weights of another backbone": write("data/weights/resnet50/a.bin", "b"),
    "what DVC ignores": lambda: (
        write("data/weights/vgg16/.x.partial", "")(),
        write("stages/core/__pycache__/x", "")(),
    ),
    "an output": write("data/index.csv", "1"),
}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kind", CHANGES)
def test_parameters_code_and_data_that_change_while_a_stage_runs_are_named(kind: str) -> None:
    change, named = CHANGES[kind]
    inputs = Inputs("features@vgg16")
    change()
    assert inputs.changed() == named


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kind", NO_CHANGES)
def test_what_is_no_other_input_to_dvc_is_no_change(kind: str) -> None:
    inputs = Inputs("features@vgg16")
    NO_CHANGES[kind]()
    assert inputs.changed() == []


@pytest.mark.usefixtures("project")
def test_a_stage_whose_code_was_written_while_it_was_starting_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recorded, "_STARTED", Path("stages/features.py").stat().st_ctime_ns - 1)
    with pytest.raises(SystemExit):
        run(write("data/index.csv", "1"))
    assert capsys.readouterr().err.startswith("inputs: 'stages/features.py' changed while features@vgg16 ran; ")
    assert not Path("data/index.csv").exists()


def test_a_stage_whose_inputs_change_fails_with_one_line_and_leaves_no_results(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        write("data/features/vgg16/train.npy", "1")()
        write("data/index.csv", "1")()
        write("params.yaml", PARAMS.replace("2", "4"))()

    (project / "data/features").mkdir()
    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "inputs: 'threads' in params.yaml changed while features@vgg16 ran; expected the same parameters, "
        "code and data until it ends, when DVC records them; run it again\n"
    )
    assert not (project / "data/features/vgg16").exists()
    assert not (project / "data/index.csv").exists()


@pytest.mark.usefixtures("project")
def test_a_stage_whose_inputs_stay_keeps_its_results() -> None:
    run(write("data/index.csv", "1"))
    assert Path("data/index.csv").exists()


def test_a_program_run_by_hand_reads_no_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(STAGE, raising=False)
    run(lambda: None)


def test_the_inputs_of_every_stage_are_found_in_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(recorded, "_content", lambda file: file)
    monkeypatch.setattr(recorded, "_signature", lambda file: file)
    for name, entry in yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
        stage = entry.get("do", entry)
        # Without one of these values nothing is left to compare.
        states = Inputs(f"{name}@vgg16" if "do" in entry else name).states
        assert len(states) == len(stage.get("params", [])) + len(stage["deps"])
        assert not [state for state in states if "$" in state or "None" in state]
