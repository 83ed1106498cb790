"""Stage candidates says which backbones get more than a linear head, in files that change with that alone."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages import candidates
from stages.core import files, params
from stages.core.errors import DataError, GroupedUserError
from stages.core.params import parse
from tests.support.clone import Clone, Done

NAMES = {"backbones": ["a", "b", "c"]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    files.write_json(Path("data/rankings/all.json"), {"finetune": "all"})
    files.write_json(Path("data/recipes/names.json"), NAMES)
    files.write_json(Path("data/rankings/best/2.json"), {"finetune": ["b", "c"]})
    files.write_json(Path("data/rankings/contenders.json"), {"finetune": ["a", "c"]})
    yield tmp_path
    params.read.cache_clear()


def decide(chosen: object) -> dict[str, bool]:
    """Return the selection of three backbones."""
    Path("params.yaml").write_text(f"backbones: {{a: {{}}, b: {{}}, c: {{}}}}\nrank: {{candidates: {chosen}}}\n")
    params.read.cache_clear()
    candidates.main()
    return {path.stem: files.read_json(path)["finetune"] for path in sorted(Path("data/candidates").iterdir())}


def test_all_are_fine_tuned_without_a_ranking(project: Path) -> None:
    Path("data/rankings/best/2.json").unlink()
    Path("data/rankings/contenders.json").unlink()
    assert decide("all") == {"a": True, "b": True, "c": True}


def test_the_best_of_the_ranking_are_fine_tuned_and_what_is_no_longer_declared_is_forgotten(project: Path) -> None:
    files.write_json(Path("data/candidates/gone.json"), {"finetune": True})
    assert decide("best/2") == {"a": False, "b": True, "c": True}


def test_the_contenders_of_the_ranking_are_fine_tuned(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert decide("contenders") == {"a": True, "b": False, "c": True}
    assert caplog.messages == ["more than the linear head for 2 of 3 backbones, not b"]


@pytest.mark.parametrize(("value", "most"), [("best/1", 1), ("best/30", 30), ("all", None), ("contenders", None)])
def test_a_number_is_known_where_there_is_one(value: str, most: int | None) -> None:
    assert parse(candidates.RankParams, {"candidates": value}, "rank").most == most


@pytest.mark.parametrize(
    "value", ["contender", "best", "best/0", "best/02", "best/-1", "2", "null", "best/2/3", "every"]
)
def test_anything_else_is_one_line(project: Path, value: str) -> None:
    with pytest.raises(GroupedUserError, match=r"rank.candidates = .*; expected contenders, all, or best/ and"):
        decide(value)


def test_a_missing_ranking_is_one_line(project: Path) -> None:
    with pytest.raises(DataError, match=r"no data/rankings/best/3.json; .* run 'dvc repro candidates'"):
        decide("best/3")


# What stands for the other stages: they note that they ran.
TRAIN = "python -c \"import sys; open(sys.argv[1], 'w').write(open(sys.argv[2]).read())\""
GRAPH = f"""
stages:
  check:
    cmd: mkdir -p data/rankings && cp all.txt data/rankings/all.json && cp all.txt data/checked.txt; cp -r recipes data
    deps: [all.txt, recipes]
    outs: [data/rankings/all.json, data/checked.txt, data/recipes]
  rank:
    cmd: mkdir -p data/rankings && cp -r ranked data/rankings/best && cp ranked/2.json data/rankings/contenders.json
    deps: [ranked]
    outs: [data/rankings/best, data/rankings/contenders.json]
  candidates:
    cmd: python -m stages.candidates
    params: [rank]
    deps: [data/checked.txt, data/recipes/names.json, "data/rankings/${{rank.candidates}}.json"]
    outs: [data/candidates]
  finetune:
    foreach: ${{backbones}}
    do:
      cmd: {TRAIN} trained_${{key}} data/candidates/${{key}}.json
      deps: ["data/candidates/${{key}}.json"]
      outs: ["trained_${{key}}"]
"""


def rank_as(clone: Clone, *names: str) -> None:
    """Let the ranking be these backbones, the best first."""
    for most in range(1, len(names) + 1):
        files.write_json(clone.folder / f"ranked/{most}.json", {"finetune": list(names[:most])})


def repro(clone: Clone, chosen: str, *targets: str) -> Done:
    (clone.folder / "params.yaml").write_text(
        f"backbones: {{a: {{}}, b: {{}}, c: {{}}}}\nrank: {{candidates: {chosen}}}\n"
    )
    done = clone.dvc("repro", *targets)
    assert done.code == 0, done.errors
    return done


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """Return a project in which DVC runs the real stage candidates between stand-ins."""
    folder = tmp_path / "clone"
    root = Path(__file__).parents[2]
    (folder / "stages").mkdir(parents=True)
    shutil.copy(root / "stages/candidates.py", folder / "stages")
    shutil.copytree(root / "stages/core", folder / "stages/core", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "dvc.yaml").write_text(GRAPH)
    files.write_json(folder / "all.txt", {"finetune": "all"})
    files.write_json(folder / "recipes/names.json", NAMES)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").touch()
    clone = Clone.begun(folder)
    rank_as(clone, "a", "b", "c")
    return clone


def test_under_dvc_training_waits_for_no_ranking_and_only_changed_fates_run_again(clone: Clone) -> None:
    everything = {f"finetune@{name}" for name in "abc"}
    # Of all backbones none waits for the ranking, which is not even made.
    assert repro(clone, "all", "finetune").ran == {"check", "candidates"} | everything
    rank_as(clone, "c", "b", "a")
    assert repro(clone, "all").ran == {"rank"}

    assert repro(clone, "best/2", "finetune").ran == {"candidates", "finetune@a"}
    # Another order of the same backbones, another K, and a change of places.
    rank_as(clone, "b", "c", "a")
    assert repro(clone, "best/2").ran == {"rank", "candidates"}
    assert repro(clone, "best/1").ran == {"candidates", "finetune@c"}
    rank_as(clone, "a", "c", "b")
    # What was trained before comes back from the run cache.
    assert repro(clone, "best/1").ran == {"rank", "candidates", "finetune@b"}
    assert "true" in clone.text("trained_a")
    assert "false" in clone.text("trained_b")
    assert repro(clone, "contenders").ran == {"candidates"}
    assert "true" in clone.text("trained_c")
    assert repro(clone, "all").ran == set()
    assert "true" in clone.text("trained_b")
