"""Stage rank reads the probes of what is declared, and writes the ranking and whom each choice of candidates means."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from stages import rank
from stages.core import files, params
from stages.core.errors import DataError

ROOT = Path(__file__).parents[2]


def write_probe(backbone: str, wrong: int, weights: str = "imagenet", images: int = 40, wrong_tests: int = 0) -> None:
    """Write a probe that is wrong on this many training and validation images, and of ten test images."""
    labels, tests = ["NA", "001"] * (images // 2), ["NA", "001"] * 5 if images else []
    seen = ["train"] * (images // 2) + ["validation"] * (images // 2)
    table = pd.DataFrame(
        {
            "split": seen + ["test"] * len(tests),
            "file": [f"{label}/{number}.jpg" for number, label in enumerate(labels + tests)],
            "label": labels + tests,
            "predicted": ["fox"] * wrong + labels[wrong:] + ["fox"] * wrong_tests + tests[wrong_tests:],
            "p:001": 0.5,
        }
    )
    scores = {"log_loss": 0.4 if images else None, "logme": 0.1 if images else None}
    files.write_csv(Path(f"data/probes/{backbone}/predictions.csv"), table)
    if images:
        files.write_csv(Path("data/splits.csv"), table[["file"]].assign(group=table["file"]))
    files.write_json(Path(f"data/probes/{backbone}/probe.json"), scores | {"weights": weights})


def chosen(path: str) -> list[str]:
    return files.read_json(Path("data/rankings") / path)["finetune"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with the probes of three backbones, and of one that is no longer declared."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "backbones: {vgg16: {}, resnet50: {}, scratch: {}}\nevaluate: {confidence: 0.95}\n"
        "report: {measure: accuracy, costs: {}}\n"
    )
    params.read.cache_clear()
    files.write_json(Path("data/recipes/names.json"), {"backbones": ["vgg16", "resnet50", "scratch"]})
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
    assert table["accuracy"].tolist() == ["0.925", "0.7", ""]
    assert table["images"].tolist() == [40, 40, 0]


def test_the_test_part_has_no_say_in_the_ranking(project: Path) -> None:
    rank.main()
    before = Path("data/ranking.csv").read_bytes()
    write_probe("resnet50", 3, wrong_tests=10)
    rank.main()
    assert Path("data/ranking.csv").read_bytes() == before


def test_every_number_of_candidates_has_its_list(project: Path) -> None:
    rank.main()
    assert chosen("best/1.json") == ["resnet50", "scratch"]
    assert chosen("best/2.json") == chosen("best/3.json") == ["resnet50", "vgg16", "scratch"]
    assert len(list(Path("data/rankings/best").iterdir())) == 3


def test_contenders_are_those_that_the_test_does_not_tell_from_the_first(project: Path) -> None:
    # Nine more are wrong, and none less: 2 / 2^9.
    rank.main()
    assert chosen("contenders.json") == ["resnet50", "scratch"]
    # Four more: 2 / 2^4.
    write_probe("vgg16", 7)
    rank.main()
    assert chosen("contenders.json") == ["resnet50", "vgg16", "scratch"]


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
    assert caplog.messages[4] == "random weights in vgg16: their ranks mean nothing for published weights"


@pytest.mark.parametrize(("measure", "first"), [("recall:001", "vgg16"), ("balanced_accuracy", "resnet50")])
def test_another_measure_ranks_and_has_a_column(project: Path, measure: str, first: str) -> None:
    # All errors of the first are in one class.
    for backbone, wrong in (("vgg16", "NA"), ("resnet50", "001")):
        path = Path(f"data/probes/{backbone}/predictions.csv")
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        numbers = table.index[table["label"] == wrong][: 12 if backbone == "vgg16" else 3]
        files.write_csv(path, table.assign(predicted=table["label"].mask(table.index.isin(numbers), "fox")))
    Path("params.yaml").write_text(
        Path("params.yaml").read_text().replace("measure: accuracy", f"measure: {json.dumps(measure)}")
    )
    params.read.cache_clear()
    rank.main()
    table = files.read_csv(Path("data/ranking.csv"), text=("backbone", "apart"))
    assert table["backbone"][0] == first
    assert list(table)[2:6] == ["accuracy", measure, "low", "high"]
    expected = {"recall:001": 1.0, "balanced_accuracy": 0.925}[measure]
    assert float(table[measure][0]) == pytest.approx(expected)
    assert float(table["low"][0]) < expected


def test_two_runs_write_the_same_bytes(project: Path) -> None:
    written = []
    for _ in range(2):
        rank.main()
        paths = [Path("data/ranking.csv"), *sorted(Path("data/rankings").rglob("*.json"))]
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]


def test_a_missing_probe_says_which_command_makes_it(project: Path) -> None:
    Path("data/probes/vgg16/predictions.csv").unlink()
    with pytest.raises(DataError, match=r"no data/probes/vgg16/predictions.csv; .* run 'dvc repro probe@vgg16'"):
        rank.main()


def test_ranking_loads_no_network_library(project: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from stages import rank; rank.main()\n"
        "assert not {'tensorflow', 'keras', 'openvino'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
