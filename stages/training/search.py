"""A search for the hyperparameters of a dense head, on frozen features, by Optuna (Akiba et al. 2019).

The tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter optimization") proposes, the
validation split decides; the test split is not read. The first trial has the backbone's own hyperparameters, so that no
worse ones are chosen. A trial that is worse than the median of the earlier ones at the same epoch is pruned (Golovin et
al. 2017, "Google Vizier", section 3.2).

A trial depends only on the seed and the finished trials before it, which are kept in a journal: a killed search resumes
after the last of them, with the same result.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from stages.core.errors import ParameterError
from stages.core.files import FLOAT_FORMAT
from stages.core.head import Head
from stages.core.measure import Measure, as_exported
from stages.core.predictions import Predictions
from stages.core.settings.report import ACCURACY
from stages.core.settings.tune import Space, TuneParams, searched
from stages.training.head_trainer import HeadTrainer, predict
from stages.training.inputs import TrainingData
from stages.training.loop import Run

log = logging.getLogger(__name__)
# Epochs before a trial can be pruned.
_UNPRUNED_EPOCHS = 5
# Stands for a probability of 0, which has no logarithm.
_MIN_PROBABILITY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Found:
    """The result of a search.

    `trials` has a row for each: trial, state, epochs, log_loss, accuracy and the measure on the validation split (empty
    if the trial was pruned or diverged), and each hyperparameter. `default` and `chosen` are values by hyperparameter,
    `importance` is the fraction of the measure's variance that each explains (functional ANOVA, Hutter et al. 2014).
    """

    trials: pd.DataFrame
    default: dict[str, Any]
    chosen: dict[str, Any]
    default_measure: float
    chosen_measure: float
    importance: dict[str, float]


class Search:
    """Trains the heads that Optuna proposes.

    The measure chooses among them as among the heads of a backbone (`attempts.kept`): for accuracy that is log loss.
    """

    def __init__(
        self, inputs: TrainingData, params: TuneParams, measure: Measure, trainer: HeadTrainer, checkpoints: Path
    ) -> None:
        self.inputs, self.params, self.trainer, self.checkpoints = inputs, params, trainer, checkpoints
        self.measure = measure
        self.default = searched(params.space, inputs.backbone, inputs.views)
        self.distributions = distributions(params.space, self.default)

    def run(self, journal: Path) -> Found:
        """Run all trials that the file `journal` does not have yet; return the result.

        Raises ParameterError when the training with the backbone's own hyperparameters diverges.
        """
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
        kept = optuna.create_study(storage=storage, study_name="search", direction=self._direction, load_if_exists=True)
        finished = kept.get_trials()[: self.params.trials]
        name, images = self.inputs.backbone.name, self.inputs.selected("train")["file"].nunique()
        log.info("%s: %d trials of dense heads on %d training images", name, self.params.trials, images)
        if finished:
            log.info("%s: %d trials are already finished", name, len(finished))
        with tqdm(
            total=self.params.trials, initial=len(finished), desc=f"tune {name}", unit="trial", disable=None
        ) as progress:  # fmt: skip
            while len(finished) < self.params.trials:
                finished.append(self._trial(finished))
                kept.add_trial(finished[-1])
                progress.update()
        return self._found(finished)

    @property
    def _direction(self) -> StudyDirection:
        return StudyDirection.MINIMIZE if self._sign < 0 else StudyDirection.MAXIMIZE

    @property
    def key(self) -> str:
        """The name of what trials are chosen by, in the files of the search."""
        return "log_loss" if self.measure.name == ACCURACY else self.measure.key

    @property
    def _sign(self) -> int:
        """1 where a higher value of that is better, -1 where a lower one is."""
        return -1 if self.key == "log_loss" else self.measure.sign

    def _trial(self, finished: list[FrozenTrial]) -> FrozenTrial:
        """Run one more trial, in its own study, so that a killed trial leaves no trace."""
        number = len(finished)
        study = optuna.create_study(
            direction=self._direction,
            sampler=optuna.samplers.TPESampler(
                seed=int(np.random.SeedSequence([self.inputs.seed, number]).generate_state(1)[0]),
                n_startup_trials=self.params.startup_trials,
            ),
            pruner=optuna.pruners.MedianPruner(self.params.startup_trials, _UNPRUNED_EPOCHS)
            if self.params.pruning
            else optuna.pruners.NopPruner(),
        )
        study.add_trials(finished)
        if not finished:
            study.enqueue_trial({name: _encoded(value) for name, value in self.default.items()})
        trial = study.ask(self.distributions)
        try:
            self._train(study, trial)
        except ParameterError as error:
            if not finished:
                raise
            log.info("trial %d: %s", number, error)
            study.tell(trial, state=TrialState.FAIL)
        return study.trials[-1]

    def _train(self, study: optuna.Study, trial: optuna.Trial) -> None:
        values = {name: _decoded(name, value) for name, value in trial.params.items()}
        inputs = self.inputs.with_values(values)
        (own := self.checkpoints / f"trial_{trial.number}").mkdir()
        pruned, run = [], Run()

        def report(epoch: int, metrics: Mapping[str, float]) -> bool:
            # Whatever the measure is, log loss says epoch by epoch whether a trial is worth going on with.
            trial.report(-self._sign * float(metrics["val_log_loss"]), epoch)
            if trial.should_prune():
                pruned.append(epoch)
            return bool(pruned)

        head = self.trainer.train(inputs, run, own, report)
        shutil.rmtree(own)
        trial.set_user_attr("epochs", len(run.rows))
        if pruned:
            study.tell(trial, state=TrialState.PRUNED)
            return
        measured = self._measured(inputs, head)
        for name, value in measured.items():
            trial.set_user_attr(name, value)
        study.tell(trial, measured[self.key])

    def _measured(self, inputs: TrainingData, head: Head) -> dict[str, float]:
        """Return log loss, accuracy and the measure of a trained head on the validation split."""
        found, actual = predict(head, inputs, "validation"), inputs.targets("validation")
        right = found[np.arange(len(found)), actual].astype(np.float64)
        measured = {
            "log_loss": float(-np.log(np.maximum(right, _MIN_PROBABILITY)).mean()),
            "accuracy": float((found.argmax(axis=1) == actual).mean()),
        }
        if self.key in measured:
            return measured
        predictions = Predictions(tuple(inputs.classes), actual, found.argmax(axis=1), found.astype(np.float64))
        # Without an image of its class a recall is unknown: then log loss, which decides between equals, decides alone.
        return measured | {self.key: float(np.nan_to_num(self.measure.value(as_exported(predictions))))}

    def _found(self, finished: list[FrozenTrial]) -> Found:
        complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
        # Of equals by the measure that with the lower log loss, and of these the first: the default, unless another one
        # is better.
        best = min(complete, key=lambda trial: (-self._sign * (trial.value or 0.0), trial.user_attrs["log_loss"]))
        return Found(
            trials=pd.DataFrame([_row(number, trial, self.key, self.default) for number, trial in enumerate(finished)]),
            default=self.default,
            chosen={name: _decoded(name, value) for name, value in best.params.items()},
            default_measure=float(finished[0].value or 0.0),
            chosen_measure=float(best.value or 0.0),
            importance=self._importance(complete),
        )

    def _importance(self, complete: list[FrozenTrial]) -> dict[str, float]:
        """Return the importance of each hyperparameter; none if too few trials are complete, or all are equal."""
        if len({trial.value for trial in complete}) < 2:  # noqa: PLR2004 (two differ)
            return {}
        study = optuna.create_study(direction=self._direction)
        study.add_trials(complete)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.inputs.seed)
        return {
            name: float(value)
            for name, value in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
        }


def distributions(space: Space, default: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Return the search distribution of each hyperparameter of `default`, which includes the default value."""
    found: dict[str, BaseDistribution] = {}
    for name, own in default.items():
        given = getattr(space, name)
        if name in ("learning_rate", "dropout", "label_smoothing"):
            found[name] = FloatDistribution(min(own, *given), max(own, *given), log=name == "learning_rate")
        else:
            if name == "views":
                given = [views for views in given if views <= own]
            choices = [_encoded(own), *map(_encoded, given)]
            found[name] = CategoricalDistribution(sorted(set(choices), key=choices.index))
    return found


def _encoded(value: Any) -> Any:
    """Return a value as Optuna stores it: lists become JSON."""
    return json.dumps(list(value)) if isinstance(value, list | tuple) else value


def _decoded(name: str, value: Any) -> Any:
    """Return a value for training, rounded as in files, so that finetune trains with exactly the same one."""
    if name == "units":
        return json.loads(value)
    return float(FLOAT_FORMAT % value) if isinstance(value, float) else value


def _row(number: int, trial: FrozenTrial, key: str, names: Mapping[str, Any]) -> dict[str, Any]:
    measured = {name: trial.user_attrs.get(name) for name in ("epochs", "log_loss", "accuracy", key)}
    values = {name: trial.params[name] for name in names}
    return {"trial": number, "state": trial.state.name.lower()} | measured | values
