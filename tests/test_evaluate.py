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


def test_folds_give_means_and_spread_that_agree_with_an_example_worked_by_hand() -> None:
    # Right: 3 of 4, 2 of 4, 4 of 4. F1 of (cat, dog): (4/5, 2/3), (1/2, 1/2), (1, 1).
    actual = [0, 0, 1, 1]
    answers = ([0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1])
    found = evaluate.over_folds([certain(actual, predicted, ("cat", "dog")) for predicted in answers], 0.95)
    assert (found["count"], found["pictures"], found["accuracy"]) == (3, [4, 4, 4], [0.75, 0.5, 1.0])
    assert found["accuracy_mean"] == 0.75
    assert found["accuracy_sd"] == pytest.approx(0.25)
    f1 = [(4 / 5 + 2 / 3) / 2, 0.5, 1.0]
    assert found["macro_f1"] == pytest.approx(f1)
    assert found["macro_f1_mean"] == pytest.approx(sum(f1) / 3)
    assert found["macro_f1_sd"] == pytest.approx(np.std(f1, ddof=1))
    # What was ruled out and is true counts 36.04 nats.
    assert found["log_loss"] == pytest.approx([36.04 / 4, 36.04 / 2, 0], abs=0.01)
    # Three folds test as many pictures as they train on: 0.75 ± t(0.975; 2) √((1/3 + 1) 0.0625) leaves 0 to 1.
    assert (found["accuracy_mean_low"], found["accuracy_mean_high"]) == (0.0, 1.0)


def test_the_interval_over_folds_counts_what_each_was_trained_on() -> None:
    # Five folds of 100 with 78, 80, 80, 81, 81 right: see the same example in tests/results/test_intervals.py.
    folds = [certain([0] * 100, [0] * right + [1] * (100 - right), ("cat", "dog")) for right in (78, 80, 80, 81, 81)]
    found = evaluate.over_folds(folds, 0.95)
    assert found["accuracy_mean_low"] == pytest.approx(0.775167, abs=1e-6)
    assert found["accuracy_mean_high"] == pytest.approx(0.824833, abs=1e-6)


def test_the_digest_says_which_picture_lies_in_which_fold() -> None:
    table = pd.DataFrame({"fold": [0, 1, 2], "file": ["a", "b", "c"]})
    assert evaluate.digest(table) == evaluate.digest(table[::-1])
    assert evaluate.digest(table) != evaluate.digest(table.assign(fold=[1, 0, 2]))
    assert len(evaluate.digest(table)) == 16


def test_the_stage_writes_the_metrics_over_folds_where_there_are_folds(project: Path) -> None:
    table = artefacts.predictions(artefacts.POSES, 0.8, seed=1)
    artefacts.write_model(project, "vgg16", artefacts.POSES, table, "none")
    evaluate.main()
    without = files.read_json(project / "data/evaluations/vgg16/metrics.json")
    assert "folds" not in without
    artefacts.write_model(project, "vgg16", artefacts.POSES, table, "none", count=4)
    evaluate.main()
    found = files.read_json(project / "data/evaluations/vgg16/metrics.json")
    folds = found.pop("folds")
    assert found == without
    assert (folds["count"], folds["pictures"]) == (4, [55] * 4)
    assert folds["accuracy_mean"] == pytest.approx((table["label"] == table["predicted"]).mean())
    assert folds["accuracy_mean_low"] < folds["accuracy_mean"] < folds["accuracy_mean_high"]


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
