"""Stage rank reads the probes of what is declared, and writes the ranking and what each number of candidates means."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from stages import files, params, rank
from stages.errors import DataError

ROOT = Path(__file__).parents[1]


def write_probe(backbone: str, wrong: int, weights: str = "imagenet", pictures: int = 40) -> None:
    labels = ["NA", "001"] * (pictures // 2)
    table = pd.DataFrame(
        {
            "file": [f"{label}/{number}.jpg" for number, label in enumerate(labels)],
            "label": labels,
            "predicted": ["001"] * wrong + labels[wrong:],
        }
    )
    scores = {"log_loss": 0.4 if pictures else None, "logme": 0.1 if pictures else None}
    files.write_csv(Path(f"data/probes/{backbone}/ranking.csv"), table)
    files.write_json(Path(f"data/probes/{backbone}/ranking.json"), scores | {"weights": weights})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with the probes of three backbones, and of one that is no longer declared."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("backbones: {vgg16: {}, resnet50: {}, scratch: {}}\nevaluate: {confidence: 0.95}\n")
    params.read.cache_clear()
    for backbone, wrong in (("vgg16", 12), ("resnet50", 3), ("gone", 0)):
        write_probe(backbone, wrong)
    write_probe("scratch", 0, "none", 0)
    yield tmp_path
    params.read.cache_clear()


def test_declared_backbones_are_ranked_and_no_other(project: Path) -> None:
    rank.main()
    table = files.read_csv(Path("data/ranking.csv"), text=("backbone", "apart"))
    assert table["backbone"].tolist() == ["resnet50", "vgg16", "scratch"]
    assert table["rank"].tolist() == ["1", "2", ""]
    assert table["accuracy"].tolist() == ["0.95", "0.85", ""]


def test_every_number_of_candidates_has_its_list(project: Path) -> None:
    rank.main()
    found = {path.name: files.read_json(path)["finetune"] for path in Path("data/rankings/best").iterdir()}
    assert found == {
        "1.json": ["resnet50", "scratch"],
        "2.json": ["resnet50", "vgg16", "scratch"],
        "3.json": ["resnet50", "vgg16", "scratch"],
    }


def test_the_log_holds_the_table_and_says_whose_weights_are_random(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_probe("vgg16", 12, "random")
    rank.main()
    assert [message.split()[:2] for message in caplog.messages[1:4]] == [
        ["1", "resnet50"],
        ["2", "vgg16"],
        ["-", "scratch"],
    ]
    assert caplog.messages[4] == "random weights in vgg16: their ranks say nothing of published ones"


def test_two_runs_write_the_same_bytes(project: Path) -> None:
    written = []
    for _ in range(2):
        rank.main()
        paths = [Path("data/ranking.csv"), *sorted(Path("data/rankings/best").iterdir())]
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]


def test_a_missing_probe_says_which_command_makes_it(project: Path) -> None:
    Path("data/probes/vgg16/ranking.csv").unlink()
    with pytest.raises(DataError, match=r"no data/probes/vgg16/ranking.csv; .* run 'dvc repro probe@vgg16'"):
        rank.main()


def test_ranking_loads_no_network_library(project: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from stages import rank; rank.main()\n"
        "assert not {'tensorflow', 'keras', 'openvino'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
