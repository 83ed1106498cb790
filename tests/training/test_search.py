"""A search proposes, validation decides, and what was killed goes on to the same result."""

import json
from collections.abc import Callable

import optuna
import pandas as pd
import pytest

from stages.core.errors import ParameterError
from stages.core.files import read_json, write_json
from stages.core.head import Head
from stages.core.measure import Measure
from stages.core.params import parse
from stages.core.settings.tune import Space, TuneParams
from stages.training import search as search_module
from stages.training.head_trainer import HeadTrainer
from stages.training.inputs import TrainingData
from stages.training.loop import Run
from stages.training.search import Search, distributions
from tests.support.features import CLASSES, WIDTH

SPACE = {
    "learning_rate": [0.0001, 0.1], "optimizer": [], "batch_size": [], "units": [[4]], "dropout": [0.0, 0.8],
    "l2": [], "label_smoothing": [], "views": [0],
}  # fmt: skip


@pytest.fixture
def inputs(inputs_of) -> Callable[..., TrainingData]:
    """Return what makes the inputs of a search, with a view of each image, from a line of `backbones`."""

    def made(**line) -> TrainingData:
        return inputs_of(views=1, **({"head": {"units": [8], "dropout": 0.9}, "epochs": 3} | line))

    return made


@pytest.fixture(scope="module")
def used() -> HeadTrainer:
    """Return a trainer that searches share: what it trains does not depend on what it has trained."""
    return HeadTrainer(WIDTH, len(CLASSES))


@pytest.fixture
def begin(tmp_path, used):
    """Return what begins a search in folders of its own."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def make(
        inputs: TrainingData, trials: int, trainer: HeadTrainer = used, measure: str = "accuracy", **changes
    ) -> Search:
        params = {"trials": trials, "startup_trials": 3, "pruning": True, "space": SPACE}
        (checkpoints := tmp_path / f"checkpoints{len(list(tmp_path.iterdir()))}").mkdir()
        return Search(inputs, parse(TuneParams, params | changes, "tune"), Measure(measure), trainer, checkpoints)

    return make


def test_the_first_trial_is_the_default_and_nothing_worse_is_chosen(inputs, begin, tmp_path) -> None:
    found = begin(inputs(), 6).run(tmp_path / "journal")
    assert len(found.trials) == 6
    assert found.default == {"learning_rate": 0.001, "units": [8], "dropout": 0.9, "views": 1}
    first = found.trials.iloc[0]
    assert {key: first[key] for key in found.default} == found.default | {"units": "[8]"}
    assert found.default_measure == first["log_loss"]
    complete = found.trials[found.trials["state"] == "complete"]
    assert found.chosen_measure == complete["log_loss"].min() <= found.default_measure
    best = complete.loc[complete["log_loss"].idxmin()]
    assert best["units"] == json.dumps(found.chosen["units"])
    numbers = {key: value for key, value in found.chosen.items() if key != "units"}
    assert {key: best[key] for key in numbers} == pytest.approx(numbers, rel=1e-8)
    assert sum(found.importance.values()) == pytest.approx(1)


def test_a_search_says_at_its_start_how_much_work_it_is(inputs, begin, tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    begin(inputs(), 2).run(tmp_path / "journal")
    assert caplog.messages[0] == "vgg16: 2 trials of dense heads on 40 training images"
    caplog.clear()
    begin(inputs(), 3).run(tmp_path / "journal")
    assert caplog.messages[:2] == [
        "vgg16: 3 trials of dense heads on 40 training images",
        "vgg16: 2 trials are already finished",
    ]


def test_the_measure_is_that_of_a_training_with_what_was_chosen(inputs, begin, tmp_path) -> None:
    searched = inputs()
    found = begin(searched, 4).run(tmp_path / "journal")
    chosen, alone = searched.with_values(found.chosen), begin(searched, 1)
    head = alone.trainer.train(chosen, Run(), alone.checkpoints)
    assert alone._measured(chosen, head)["log_loss"] == found.chosen_measure
    # Rounded as in files: finetune reads exactly the value that was tried.
    write_json(tmp_path / "chosen.json", {"values": found.chosen})
    assert read_json(tmp_path / "chosen.json")["values"] == found.chosen


def test_a_search_that_was_killed_goes_on_to_the_same_result(inputs, begin, tmp_path, monkeypatch) -> None:
    expected = begin(inputs(), 5).run(tmp_path / "whole")
    searching, train, begun = begin(inputs(), 5), Search._train, []

    def killed(self, study, trial) -> None:
        begun.append(trial.number)
        if len(begun) == 4:
            raise KeyboardInterrupt
        train(self, study, trial)

    monkeypatch.setattr(Search, "_train", killed)
    with pytest.raises(KeyboardInterrupt):
        searching.run(tmp_path / "journal")
    found = begin(inputs(), 5, HeadTrainer(WIDTH, len(CLASSES))).run(tmp_path / "journal")
    assert begun == [0, 1, 2, 3, 3, 4]
    pd.testing.assert_frame_equal(found.trials, expected.trials)
    assert (found.chosen, found.importance) == (expected.chosen, expected.importance)


def test_trials_that_are_worse_than_the_median_are_pruned(inputs, begin, tmp_path) -> None:
    found = begin(inputs(epochs=8), 9).run(tmp_path / "journal")
    pruned = found.trials[found.trials["state"] == "pruned"]
    assert len(pruned) > 0
    assert pruned["log_loss"].isna().all()
    assert (pruned["epochs"] < 8).any()
    whole = begin(inputs(epochs=3), 4, pruning=False).run(tmp_path / "unpruned")
    assert set(whole.trials["state"]) == {"complete"}


def test_a_trial_that_diverges_is_noted_but_the_default_must_train(inputs, begin, tmp_path, monkeypatch) -> None:
    train = HeadTrainer.train

    def diverging(self, inputs, *arguments) -> Head:
        if inputs.backbone.optimizer.name == "sgd":
            raise ParameterError("training diverged", "a finite loss", "lower the learning rate")
        return train(self, inputs, *arguments)

    monkeypatch.setattr(HeadTrainer, "train", diverging)
    space = SPACE | {"optimizer": ["sgd"], "units": []}
    found = begin(inputs(), 8, space=space).run(tmp_path / "journal")
    failed = found.trials["state"] == "fail"
    assert failed.any()
    assert (found.trials["optimizer"] == "sgd").equals(failed)
    with pytest.raises(ParameterError, match="diverged"):
        begin(inputs(optimizer={"name": "sgd"}), 8, space=space).run(tmp_path / "other")


def test_another_measure_chooses_and_of_equals_the_one_with_the_lower_log_loss(inputs, begin, tmp_path) -> None:
    found = begin(inputs(), 6, measure="balanced_accuracy", pruning=False).run(tmp_path / "journal")
    values = found.trials["balanced_accuracy"]
    best = found.trials[values == values.max()].sort_values("log_loss").iloc[0]
    assert found.chosen_measure == values.max()
    assert best["learning_rate"] == pytest.approx(found.chosen["learning_rate"], rel=1e-8)


@pytest.mark.parametrize("measure", ["macro_f1", "log_loss", "cost"])
def test_trials_are_pruned_by_log_loss_whatever_the_measure(inputs, begin, tmp_path, measure: str) -> None:
    found = begin(inputs(epochs=6), 9, measure=measure).run(tmp_path / "journal")
    assert (found.trials["state"] == "pruned").any()
    key, sign = Measure(measure).key, Measure(measure).sign
    assert found.chosen_measure == sign * (sign * found.trials[key].dropna()).max()


def test_no_trial_reads_the_test_part(inputs, begin, tmp_path) -> None:
    searched = inputs()
    expected = begin(searched, 3).run(tmp_path / "journal")
    (searched.features / "test.npy").unlink()
    pd.testing.assert_frame_equal(begin(searched, 3).run(tmp_path / "other").trials, expected.trials)


def test_a_backbone_without_a_dense_head_begins_with_the_first_of_the_space(inputs, begin, tmp_path) -> None:
    found = begin(inputs(head={"units": []}), 2).run(tmp_path / "journal")
    assert found.default["units"] == json.loads(found.trials["units"][0]) == [4]


def test_the_default_lies_in_every_distribution() -> None:
    space = parse(
        Space,
        SPACE | {"optimizer": ["sgd"], "units": [[2, 2], [4]], "views": [0, 5], "label_smoothing": [0.1, 0.2]},
        "tune.space",
    )
    default = {"learning_rate": 0.5, "optimizer": "adam", "units": [8], "label_smoothing": 0.0, "views": 3}
    found = distributions(space, default)
    assert (found["learning_rate"].low, found["learning_rate"].high, found["learning_rate"].log) == (0.0001, 0.5, True)
    assert (found["label_smoothing"].low, found["label_smoothing"].high) == (0.0, 0.2)
    assert found["optimizer"].choices == ("adam", "sgd")
    assert found["units"].choices == ("[8]", "[2, 2]", "[4]")
    assert found["views"].choices == (3, 0)
    assert search_module._decoded("units", "[8]") == [8]
