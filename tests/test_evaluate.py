"""Stage evaluate: the same numbers for the same predictions, at every edge, and one line for a mistake."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import evaluate, files, params
from stages.errors import DataError, ParameterError
from stages.results.predictions import Predictions
from tests.results import artefacts

ROOT = Path(__file__).parents[1]
SETTINGS = evaluate.EvaluateParams(confidence=0.95, top_k=2, calibration_bins=10)


def certain(actual: list[int], predicted: list[int], classes: tuple[str, ...]) -> Predictions:
    """Return predictions made with full confidence."""
    return Predictions(classes, np.array(actual), np.array(predicted), np.eye(len(classes))[predicted])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    artefacts.write_params(tmp_path, ["vgg16"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate", "vgg16"])
    params.read.cache_clear()
    yield tmp_path
    params.read.cache_clear()


def test_a_perfect_score_is_perfect_in_every_metric() -> None:
    perfect = certain([0, 1, 1, 0], [0, 1, 1, 0], ("cat", "dog"))
    found = evaluate.evaluate(perfect, perfect, "imagenet", SETTINGS).metrics
    assert {key: found[key] for key in ("accuracy", "macro_f1", "balanced_accuracy", "top_2")} == {
        "accuracy": 1,
        "macro_f1": 1,
        "balanced_accuracy": 1,
        "top_2": 1,
    }
    assert found["ece"] == 0
    assert found["log_loss"] == pytest.approx(0, abs=1e-12)
    assert found["accuracy_high"] == 1
    assert 0.4 < found["accuracy_low"] < 1


def test_constant_predictions_of_two_classes_score_as_chance() -> None:
    constant = certain([0, 1, 1, 0], [0, 0, 0, 0], ("cat", "dog"))
    found = evaluate.evaluate(constant, constant, "random", SETTINGS).metrics
    assert found["accuracy"] == found["balanced_accuracy"] == found["ece"] == 0.5
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["weights"] == "random"


def test_a_class_without_test_pictures_is_reported_with_no_recall(tmp_path: Path) -> None:
    result = evaluate.evaluate(
        certain([0, 1, 1], [0, 1, 2], ("cat", "dog", "fox")), certain([2], [2], ("cat", "dog", "fox")), "none", SETTINGS
    )
    files.write_json(tmp_path / "metrics.json", result.metrics)
    assert files.read_json(tmp_path / "metrics.json")["per_class"]["fox"] == {
        "f1": 0.0,
        "precision": 0.0,
        "recall": None,
        "support": 0,
    }
    assert result.metrics["balanced_accuracy"] == 0.75


def test_top_k_is_named_after_its_parameter() -> None:
    predictions = certain([0, 1], [0, 0], ("cat", "dog"))
    settings = evaluate.EvaluateParams(confidence=0.9, top_k=5, calibration_bins=1)
    found = evaluate.evaluate(predictions, predictions, "none", settings)
    assert found.metrics["top_5"] == 1
    assert found.metrics["confidence"] == 0.9
    assert len(found.calibration) == 1


def test_the_stage_writes_one_row_for_each_test_picture_and_its_metrics(project: Path) -> None:
    table = artefacts.predictions(artefacts.POSES, 0.8, seed=1)
    artefacts.write_model(project, "vgg16", artefacts.POSES, table, "random")
    evaluate.main()
    folder = project / "data/evaluations/vgg16"
    test = table[table["split"] == "test"]
    confusion = pd.read_csv(folder / "confusion.csv")
    assert confusion["actual"].tolist() == test["label"].tolist()
    assert confusion["predicted"].tolist() == test["predicted"].tolist()
    metrics = files.read_json(folder / "metrics.json")
    assert metrics["accuracy"] == pytest.approx((test["label"] == test["predicted"]).mean())
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    assert metrics["weights"] == "random"
    assert metrics["test_pictures"] == len(test) == pd.read_csv(folder / "calibration.csv")["pictures"].sum()
    assert set(metrics["validation"]) == {"accuracy", "log_loss"}


def test_the_same_predictions_give_the_same_bytes(project: Path) -> None:
    artefacts.write_model(project, "vgg16", artefacts.POSES, artefacts.predictions(artefacts.POSES, 0.8, 1), "none")
    written = []
    for _ in range(2):
        evaluate.main()
        written.append([path.read_bytes() for path in sorted((project / "data/evaluations/vgg16").iterdir())])
    assert written[0] == written[1]


def test_classes_named_like_numbers_and_missing_values_stay_names(project: Path) -> None:
    classes = ("001", "NA", "nan", "true")
    artefacts.write_model(project, "vgg16", classes, artefacts.predictions(classes, 0.8, 1), "none")
    evaluate.main()
    metrics = files.read_json(project / "data/evaluations/vgg16/metrics.json")
    assert {name: row["support"] for name, row in metrics["per_class"].items()} == dict.fromkeys(classes, 22)


def test_missing_predictions_say_which_command_makes_them(project: Path) -> None:
    with pytest.raises(DataError, match=r"no data/models/vgg16/provenance.json; .* run 'dvc repro finetune@vgg16'"):
        evaluate.main()


def test_the_backbone_must_be_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate"])
    with pytest.raises(ParameterError, match="evaluate of backbone ''; expected the name of one backbone"):
        evaluate.main()


def test_the_room_of_results_loads_no_network_library() -> None:
    code = (
        "import sys; import stages.evaluate, stages.compare; light = set(sys.modules);"
        "import stages.results.report, stages.results.metrics, stages.results.predictions;"
        "assert not {'matplotlib', 'sklearn', 'scipy', 'jinja2'} & light;"
        "assert not {'tensorflow', 'keras', 'openvino', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
