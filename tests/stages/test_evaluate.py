"""Stage evaluate: the same numbers for the same predictions, at every edge, and one line for a mistake."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages import evaluate
from stages.core import files, params, shares
from stages.core.errors import DataError
from stages.core.measure import Measure
from stages.core.predictions import Predictions, of_split
from stages.statistics.groups import Groups
from tests.support import artefacts

ROOT = Path(__file__).parents[2]
SETTINGS, SEED = artefacts.SETTINGS, artefacts.SEED


def evaluated(test: Predictions, validation: Predictions, measure: Measure = artefacts.MEASURE) -> evaluate.Evaluation:
    """Return what is found of a head that validation stopped, so that its images are those that it had not seen."""
    return evaluate.evaluate(test, Groups.single(len(test.actual)), validation, validation, SETTINGS, measure, SEED)


def certain(actual: list[int], predicted: list[int], classes: tuple[str, ...]) -> Predictions:
    """Return predictions made with full confidence."""
    return Predictions(classes, np.array(actual), np.array(predicted), np.eye(len(classes))[predicted])


def declare(root: Path, backbones: list[str]) -> None:
    artefacts.write_params(root, backbones)
    params.read.cache_clear()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    declare(tmp_path, ["vgg16"])
    yield tmp_path
    params.read.cache_clear()


def test_a_perfect_score_is_perfect_in_every_metric() -> None:
    perfect = certain([0, 1, 1, 0], [0, 1, 1, 0], ("cat", "dog"))
    found = evaluated(perfect, perfect).metrics
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
    found = evaluated(constant, constant).metrics
    assert found["accuracy"] == found["balanced_accuracy"] == found["ece"] == 0.5
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_a_class_without_test_images_is_reported_with_no_recall(tmp_path: Path) -> None:
    classes = ("cat", "dog", "fox")
    result = evaluated(certain([0, 1, 1], [0, 1, 2], classes), certain([2], [2], classes))
    files.write_json(tmp_path / "metrics.json", result.metrics)
    assert files.read_json(tmp_path / "metrics.json")["per_class"]["fox"] == {
        "f1": 0.0,
        "precision": 0.0,
        "recall": None,
        "support": 0,
    }
    assert result.metrics["balanced_accuracy"] == 0.75


def test_the_temperature_comes_from_what_was_not_seen_and_is_applied_to_the_test_images() -> None:
    # Not seen: odds of 9 are claimed and odds of 3 found, so T = 2. Test: 9 of 10 right at 0.9 become 0.75.
    def sure(right: int, images: int) -> Predictions:
        actual = np.repeat([0, 1], [right, images - right])
        return Predictions(("cat", "dog"), actual, np.zeros(images, np.int64), np.tile([0.9, 0.1], (images, 1)))

    result = evaluate.evaluate(
        sure(9, 10), Groups.single(10), sure(5, 10), sure(75_000, 100_000), SETTINGS, artefacts.MEASURE, SEED
    )
    found = result.metrics
    assert found["temperature"] == pytest.approx(2, abs=1e-3)
    assert (found["ece"], found["ece_scaled"]) == pytest.approx((0, 0.15), abs=1e-3)
    expected = -(9 * np.log([0.9, 0.75]) + np.log([0.1, 0.25])) / 10
    assert (found["log_loss"], found["log_loss_scaled"]) == pytest.approx(tuple(expected), abs=1e-3)
    scaled = result.calibration_scaled
    assert scaled["images"].tolist() == [10 * (high == 0.8) for high in scaled["high"].round(1)]
    assert result.calibration["accuracy"].dropna().tolist() == scaled["accuracy"].dropna().tolist() == [0.9]


def test_intervals_hold_every_metric_and_say_how_they_were_made() -> None:
    table = artefacts.predictions(artefacts.POSES, 0.8, seed=1)
    test, validation = (of_split(table, split, artefacts.POSES) for split in ("test", "validation"))
    found = evaluated(test, validation).metrics
    intervals = found["intervals"]
    assert intervals["method"].startswith("bootstrap")
    assert intervals["resamples"] == 200
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "log_loss"):
        low, high = intervals[name]
        assert low <= found[name] <= high
    assert tuple(intervals["accuracy"]) == (found["accuracy_low"], found["accuracy_high"])


def test_a_score_without_a_doubt_has_no_bootstrap_interval_but_wilsons(tmp_path: Path) -> None:
    perfect = certain([0, 1, 1, 0], [0, 1, 1, 0], ("cat", "dog"))
    files.write_json(tmp_path / "m.json", evaluated(perfect, perfect).metrics)
    found = files.read_json(tmp_path / "m.json")
    assert found["intervals"]["macro_f1"] is None
    assert found["accuracy_low"] < found["accuracy_high"] == 1
    assert 0.05 <= found["temperature"] <= 20


def test_repeats_give_the_spread_over_trainings() -> None:
    right = [certain([0] * 10, [0] * count + [1] * (10 - count), ("cat", "dog")) for count in (8, 9, 7)]
    found = evaluate.over_repeats(right[0], right[1:])
    assert (found["count"], found["accuracy"]) == (3, [0.8, 0.9, 0.7])
    assert (found["mean"], found["sd"]) == pytest.approx((0.8, 0.1))
    assert evaluate.over_repeats(right[0], []) == {"count": 1, "accuracy": [0.8], "mean": 0.8, "sd": None}


def test_top_k_is_named_after_its_parameter() -> None:
    predictions = certain([0, 1], [0, 0], ("cat", "dog"))
    settings = evaluate.EvaluateParams(confidence=0.9, top_k=5, calibration_bins=1, resamples=100)
    found = evaluate.evaluate(
        predictions, Groups.single(len(predictions.actual)), predictions, predictions, settings, artefacts.MEASURE, SEED
    )
    assert found.metrics["top_5"] == 1
    assert found.metrics["confidence"] == 0.9
    assert len(found.calibration) == 1


def test_the_stage_writes_one_row_for_each_test_image_and_its_metrics(project: Path) -> None:
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
    assert metrics["test_images"] == len(test) == pd.read_csv(folder / "calibration.csv")["images"].sum()
    assert set(metrics["validation"]) == {"accuracy", "log_loss"}
    assert len(metrics["repeats"]["accuracy"]) == metrics["repeats"]["count"] == 3
    assert metrics["repeats"]["accuracy"][0] == metrics["accuracy"]
    assert [head["head"] for head in metrics["heads"]] == ["linear", "dense"]
    assert metrics["heads"][1]["kept"]
    assert metrics["heads"][1]["accuracy"] == metrics["accuracy"]
    assert [row["share"] for row in metrics["shares"]] == [0.1, 0.25, 0.5, 1.0]
    assert metrics["shares"][-1]["training_images"] == 330
    scaled = pd.read_csv(folder / "calibration_scaled.csv")
    assert list(scaled) == list(pd.read_csv(folder / "calibration.csv"))


def test_without_repeats_and_shares_there_is_one_training_and_no_share(project: Path) -> None:
    table = artefacts.predictions(artefacts.POSES, 0.8, seed=1)
    artefacts.write_model(project, "vgg16", artefacts.POSES, table, "random")
    folder = project / "data/models/vgg16"
    files.write_csv(folder / "repeats.csv", artefacts.repeats(table, count=1))
    files.write_csv(folder / "shares.csv", shares.table([]))
    evaluate.main()
    metrics = files.read_json(project / "data/evaluations/vgg16/metrics.json")
    accuracy = metrics["accuracy"]
    assert metrics["repeats"] == {"count": 1, "accuracy": [accuracy], "mean": accuracy, "sd": None}
    assert (metrics["shares"], metrics["learning_curve"]) == ([], None)


def test_folds_give_means_and_spread_that_agree_with_an_example_worked_by_hand() -> None:
    # Right: 3 of 4, 2 of 4, 4 of 4. F1 of (cat, dog): (4/5, 2/3), (1/2, 1/2), (1, 1).
    actual = [0, 0, 1, 1]
    answers = ([0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1])
    found = evaluate.over_folds([certain(actual, predicted, ("cat", "dog")) for predicted in answers], 0.95)
    assert (found["count"], found["images"], found["accuracy"]) == (3, [4, 4, 4], [0.75, 0.5, 1.0])
    assert found["accuracy_mean"] == 0.75
    assert found["accuracy_sd"] == pytest.approx(0.25)
    f1 = [(4 / 5 + 2 / 3) / 2, 0.5, 1.0]
    assert found["macro_f1"] == pytest.approx(f1)
    assert found["macro_f1_mean"] == pytest.approx(sum(f1) / 3)
    assert found["macro_f1_sd"] == pytest.approx(np.std(f1, ddof=1))
    # What was ruled out and is true counts 36.04 nats.
    assert found["log_loss"] == pytest.approx([36.04 / 4, 36.04 / 2, 0], abs=0.01)
    # Three folds test as many images as they train on: 0.75 ± t(0.975; 2) √((1/3 + 1) 0.0625) leaves 0 to 1.
    assert (found["accuracy_mean_low"], found["accuracy_mean_high"]) == (0.0, 1.0)


def test_the_interval_over_folds_counts_what_each_was_trained_on() -> None:
    # Five folds of 100 with 78, 80, 80, 81, 81 right: see the same example in tests/core/test_intervals.py.
    folds = [certain([0] * 100, [0] * right + [1] * (100 - right), ("cat", "dog")) for right in (78, 80, 80, 81, 81)]
    found = evaluate.over_folds(folds, 0.95)
    assert found["accuracy_mean_low"] == pytest.approx(0.775167, abs=1e-6)
    assert found["accuracy_mean_high"] == pytest.approx(0.824833, abs=1e-6)


def test_the_digest_says_which_image_lies_in_which_fold() -> None:
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
    assert (folds["count"], folds["images"]) == (4, [55] * 4)
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


def test_missing_groups_and_predictions_say_which_command_makes_them(project: Path) -> None:
    with pytest.raises(
        DataError, match=r"no data/splits.csv; expected the groups of the images; run 'dvc repro split'"
    ):
        evaluate.main()
    files.write_csv(project / "data/splits.csv", pd.DataFrame({"file": ["a.png"], "group": ["a"]}))
    with pytest.raises(DataError, match=r"no data/models/vgg16/provenance.json; .* run 'dvc repro finetune@vgg16'"):
        evaluate.main()


def test_every_declared_backbone_is_evaluated_and_what_is_no_longer_declared_is_gone(project: Path) -> None:
    for seed, name in enumerate(("vgg16", "scratch")):
        table = artefacts.predictions(artefacts.POSES, 0.8, seed)
        artefacts.write_model(project, name, artefacts.POSES, table, artefacts.NINE[name][-1])
    declare(project, ["vgg16", "scratch"])
    evaluate.main()
    folder = project / "data/evaluations"
    assert {path.name for path in folder.iterdir()} == {"vgg16", "scratch"}
    assert files.read_json(folder / "scratch/metrics.json")["weights"] == "none"
    declare(project, ["vgg16"])
    evaluate.main()
    assert {path.name for path in folder.iterdir()} == {"vgg16"}


def test_a_backbone_without_predictions_leaves_the_earlier_evaluations_as_they_were(project: Path) -> None:
    artefacts.write_model(project, "vgg16", artefacts.POSES, artefacts.predictions(artefacts.POSES, 0.8, 1), "random")
    evaluate.main()
    before = (project / "data/evaluations/vgg16/metrics.json").read_bytes()
    declare(project, ["vgg16", "scratch"])
    with pytest.raises(DataError, match=r"no data/models/scratch/provenance\.json"):
        evaluate.main()
    assert [path.name for path in (project / "data/evaluations").iterdir()] == ["vgg16"]
    assert (project / "data/evaluations/vgg16/metrics.json").read_bytes() == before


def linear(project: Path, **changes: object) -> dict[str, Any]:
    """Return the metrics of a linear head that is kept; `changes` are those of its predictions.csv."""
    table = artefacts.predictions(artefacts.POSES, 0.8, seed=1)
    artefacts.write_model(project, "vgg16", artefacts.POSES, table, "imagenet", kept="linear")
    path = project / "data/models/vgg16/predictions.csv"
    written = files.read_csv(path, text=("split", "file", "label", "predicted"))
    files.write_csv(path, written.assign(**changes))
    evaluate.main()
    return files.read_json(project / "data/evaluations/vgg16/metrics.json")


def test_of_a_linear_head_the_training_images_ask_for_the_temperature_too(project: Path) -> None:
    table = artefacts.out_of_fold(artefacts.predictions(artefacts.POSES, 0.8, seed=1))
    # Sure of each training image, and wrong about all of them.
    classes, train = list(artefacts.POSES), table["split"] == "train"
    wrong = {
        f"p:{name}": table[f"p:{name}"].where(~train, (table["label"] == classes[place - 1]) * 0.96 + 0.008)
        for place, name in enumerate(classes)
    }
    usual, doubtful = linear(project), linear(project, **wrong)
    assert usual["temperature_images"] == doubtful["temperature_images"] == 220
    assert doubtful["temperature"] > 2 * usual["temperature"]
    for key in ("accuracy", "log_loss", "validation", "heads"):
        assert doubtful[key] == usual[key]


def test_a_linear_head_has_no_repeats_and_the_largest_share_is_its_own(project: Path) -> None:
    found = linear(project)
    assert found["repeats"] == {"count": 1, "accuracy": [found["accuracy"]], "mean": found["accuracy"], "sd": None}
    assert found["shares"][-1]["accuracy"] == found["accuracy"]
    # Linear heads learn from the validation images as well.
    assert [share["training_images"] for share in found["shares"]] == [33, 82, 165, 330]
    assert {share["validation_images"] for share in found["shares"]} == {0}
    assert [share["draws"] for share in found["shares"]] == [2, 2, 2, 1]


def test_the_largest_share_is_the_linear_heads_where_another_was_kept(project: Path) -> None:
    table = artefacts.predictions(artefacts.POSES, 0.8, seed=1)
    artefacts.write_model(project, "vgg16", artefacts.POSES, table, "imagenet", kept="unfrozen")
    evaluate.main()
    found = files.read_json(project / "data/evaluations/vgg16/metrics.json")
    assert found["shares"][-1]["accuracy"] == found["heads"][0]["accuracy"] != found["accuracy"]
    assert found["shares"][-1]["training_images"] == 330


def test_a_network_trained_from_nothing_has_its_own_shares_of_the_training_images(project: Path) -> None:
    artefacts.write_model(project, "vgg16", artefacts.POSES, artefacts.predictions(artefacts.POSES, 0.8, 1), "none")
    evaluate.main()
    found = files.read_json(project / "data/evaluations/vgg16/metrics.json")
    assert [share["training_images"] for share in found["shares"]] == [22, 55, 110, 220]
    assert {share["validation_images"] for share in found["shares"]} == {110}
    assert found["learning_curve"] is None
    assert found["shares"][-1]["accuracy"] == found["accuracy"]


# Heads --------------------------------------------------------------------------------------------------


def tried(right: dict[str, int], images: int = 20) -> pd.DataFrame:
    """Return heads.csv of heads that are right on the first N test images, with confidence 0.8, and on all others."""
    tables = []
    for head, count in right.items():
        predicted = ["cat"] * count + ["dog"] * (images - count)
        table = artefacts.answers(["cat"] * images, predicted, ("cat", "dog"))
        likely = (table["predicted"] == "cat") * 0.6 + 0.2
        tables.append(table.assign(head=head, **{"p:cat": likely, "p:dog": 1 - likely}))
    return pd.concat(tables, ignore_index=True)


def over_heads(table: pd.DataFrame, kept: str) -> list[dict[str, Any]]:
    """Return the metrics of the heads in a table of images that are groups of their own."""
    return evaluate.over_heads(
        table, {kept: 1.0}, ("cat", "dog"), artefacts.groups_of(table), SETTINGS, artefacts.MEASURE
    )


def test_each_head_is_scored_and_compared_with_the_kept_one_on_the_same_images() -> None:
    found = over_heads(tried({"linear": 18, "dense": 10}), "linear")
    kept, other = found
    losses = [-(count * np.log(0.8) + (20 - count) * np.log(0.2)) / 20 for count in (18, 10)]
    assert kept == {
        "head": "linear",
        "kept": True,
        "value": 0.9,
        "accuracy": 0.9,
        "log_loss": pytest.approx(losses[0]),
        "validation_log_loss": pytest.approx(losses[0]),
        "validation_value": 0.9,
    }
    assert (other["head"], other["kept"], other["accuracy"]) == ("dense", False, 0.5)
    assert other["log_loss"] == pytest.approx(losses[1])
    assert other["difference"] == pytest.approx(0.4)
    assert 0 < other["low"] < 0.4 < other["high"] < 1
    # Eight images that one alone gets right: 2 / 2^8.
    assert other["p"] == pytest.approx(2 / 2**8)


def test_a_head_that_is_better_on_the_test_images_than_the_kept_one_has_a_negative_difference() -> None:
    found = over_heads(tried({"linear": 18, "dense": 10}), "dense")
    assert [row["head"] for row in found] == ["linear", "dense"]
    assert found[0]["difference"] == pytest.approx(-0.4)


def test_heads_are_judged_by_the_validation_images_that_all_of_them_predict() -> None:
    table = tried({"linear": 18, "dense": 10})
    # The linear head has no prediction of the images that it is right about: the others are worth log 5 to both.
    alone = (table["head"] == "linear") & (table["split"] == "validation") & (table["predicted"] == "cat")
    found = over_heads(table[~alone], "linear")
    assert [row["validation_log_loss"] for row in found] == pytest.approx([np.log(5)] * 2)
    assert [row["accuracy"] for row in found] == [0.9, 0.5]


def test_a_single_head_is_compared_with_none() -> None:
    (found,) = over_heads(tried({"whole": 18}), "whole")
    assert set(found) == {"head", "kept", "value", "accuracy", "log_loss", "validation_log_loss", "validation_value"}


@pytest.mark.parametrize("measure", ["log_loss", "cost", "balanced_accuracy"])
def test_heads_are_compared_by_the_measure_that_decides(measure: str) -> None:
    table = tried({"linear": 18, "dense": 10})
    deciding = Measure(measure)
    groups = artefacts.groups_of(table)
    kept, other = evaluate.over_heads(table, {"linear": 1.0}, ("cat", "dog"), groups, SETTINGS, deciding)
    assert deciding.sign * (kept["value"] - other["value"]) == pytest.approx(other["difference"])
    assert other["difference"] > 0
    assert deciding.sign * (kept["validation_value"] - other["validation_value"]) > 0


def test_the_kept_head_has_the_value_of_the_exported_one() -> None:
    table, classes = tried({"linear": 18, "dense": 10}), ("cat", "dog")
    groups, deciding = artefacts.groups_of(table), Measure("log_loss")
    linear = table[table["head"] == "linear"]
    for temperature in (0.5, 3.0):
        found = {"temperature": temperature, "confidence": 0.95, "intervals": {}}
        ranked = evaluate.over_measure(deciding, found, linear, classes, groups)
        kept, other = evaluate.over_heads(table, {"linear": temperature}, classes, groups, SETTINGS, deciding)
        assert kept["value"] == pytest.approx(ranked["value"])
        assert other["difference"] == pytest.approx(other["value"] - kept["value"])


def test_the_measure_that_decides_is_written_with_its_interval_and_its_costs(project: Path) -> None:
    table = artefacts.predictions(artefacts.POSES, 0.7, 0)
    artefacts.write_model(project, "vgg16", artefacts.POSES, table, "imagenet")
    text = Path("params.yaml").read_text().replace("measure: accuracy", "measure: cost")
    Path("params.yaml").write_text(text.replace("costs: {}", "costs: {tree: {plank: 7}}"))
    params.read.cache_clear()
    evaluate.main()
    found = files.read_json(next(iter(Path("data/evaluations").glob("*/metrics.json"))))["measure"]
    assert found["name"] == "cost"
    assert 0 <= found["low"] < found["value"] < found["high"]
    assert found["matrix"]["tree"]["plank"] == 7
    assert found["matrix"]["plank"]["plank"] == 0
    assert found["matrix"]["plank"]["tree"] == 1


def test_confusion_and_recalls_are_those_of_the_decisions_and_accuracy_is_not() -> None:
    classes = ("nodule", "normal")
    # A normal image is claimed to be a nodule with 30 %, a nodule with 40 %; none has most of the probability there.
    normal, nodule = [0.3, 0.7], [0.4, 0.6]
    test = Predictions(classes, np.array([1, 1, 1, 0]), np.ones(4, np.int64), np.array([normal] * 3 + [nodule]))
    # A temperature of 1: what is claimed holds for images that were not seen.
    unseen = Predictions(classes, np.repeat([0, 1], [30, 70]), np.ones(100, np.int64), np.tile([0.3, 0.7], (100, 1)))
    measure = Measure("cost", {"nodule": {"normal": 2.0}})
    found = evaluated(test, unseen, measure)
    assert found.metrics["accuracy"] == 0.75
    assert found.confusion["predicted"].tolist() == ["normal"] * 3 + ["nodule"]
    assert found.metrics["per_class"]["nodule"] == {"precision": 1, "recall": 1, "f1": 1, "support": 1}
    # The very decisions that the cost is of.
    dear = evaluated(test, unseen, Measure("cost", {"nodule": {"normal": 9.0}}))
    assert dear.confusion["predicted"].tolist() == ["nodule"] * 4
    assert dear.metrics["per_class"]["nodule"]["precision"] == 0.25
    assert evaluated(test, unseen).metrics["per_class"]["nodule"]["recall"] == 0


@pytest.mark.parametrize(("measure", "said"), [("cost", "vgg16: mean cost 0."), ("accuracy", "vgg16: accuracy 0.")])
def test_the_measure_that_decides_comes_first_in_the_log(
    measure: str, said: str, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    artefacts.write_model(project, "vgg16", artefacts.POSES, artefacts.predictions(artefacts.POSES, 0.7, 0), "imagenet")
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("measure: accuracy", f"measure: {measure}"))
    params.read.cache_clear()
    with caplog.at_level("INFO"):
        evaluate.main()
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(said)
    assert ", accuracy" in message or measure == "accuracy"


def test_a_kept_head_that_was_not_tried_is_one_line() -> None:
    with pytest.raises(DataError, match=r"heads.csv without the kept head 'dense'; .* run finetune again"):
        over_heads(tried({"linear": 18}), "dense")


def over_tuning(tuned: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, float] | None:
    groups = artefacts.groups_of(tuned)
    return evaluate.over_tuning(tuned, baseline, ("cat", "dog"), groups, SETTINGS, artefacts.MEASURE)


def test_what_tuning_brought_is_the_kept_accuracy_less_that_of_the_defaults() -> None:
    found = tried({"tuned": 18, "baseline": 10})
    tuned, baseline = (found[found["head"] == head].drop(columns="head") for head in ("tuned", "baseline"))
    gain = over_tuning(tuned, baseline)
    assert gain
    assert (gain["baseline_accuracy"], gain["gain"]) == (0.5, pytest.approx(0.4))
    assert gain["low"] < gain["gain"] < gain["high"]
    assert over_tuning(tuned, baseline[:0]) is None


def test_evaluate_and_compare_load_no_network_library() -> None:
    code = (
        "import sys; import stages.evaluate, stages.compare;"
        "assert not {'tensorflow', 'keras', 'openvino', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
