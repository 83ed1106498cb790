"""Stage compare: the numbers of all declared backbones side by side, for git, for DVC and for people.

    python -m stages.compare

Reads what finetune, evaluate, explain and benchmark wrote for each backbone of params.yaml, and for no
other, and writes data/metrics.json, data/summary, data/plots and the report. Any change of params.yaml
makes it run again, since the report names the parameters that differ from their defaults.
"""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import files, params
from stages.core.errors import DataError, run
from stages.core.measure import Measure
from stages.core.predictions import COLUMNS, read_groups, read_predictions, tested
from stages.core.settings.report import BEST, ReportParams
from stages.pages import catalogues
from stages.pages.language import Language
from stages.report import markdown_summary, page, provenance, runs
from stages.report.examples import read_explanation
from stages.report.opening import Setting
from stages.report.pairwise_comparison import PairwiseComparisons
from stages.report.ranking_agreement import NUMBERS, RankingAgreement, ranking_agreement
from stages.report.runs import Run
from stages.report.transfer import transfer
from stages.report.verdict import Evidence
from stages.statistics import pairwise
from stages.statistics.contest import Contest, read_contest

EVALUATIONS = Path("data/evaluations")
EXPLANATIONS = Path("data/explanations")
BENCHMARKS = Path("data/benchmarks")
MODELS = Path("data/models")
TIMINGS = Path("data/timings")
TUNING = Path("data/tuning")
RAW = Path("data/raw")
MANIFEST = Path("data/manifest.csv")
SPLITS = Path("data/splits.csv")
AUDIT = Path("data/audit.json")
RANKING = Path("data/ranking.csv")
METRICS = Path("data/metrics.json")
SUMMARY = Path("data/summary")
PLOTS = Path("data/plots")
REPORT = Path("data/report")

# The tables of predictions by the main training and by further ones.
_PREDICTED = ("predictions.csv", "repeats.csv")
_CALIBRATIONS = ("calibration", "calibration_scaled")
# What is read of each backbone, in the folder of its own, and by which stage it is written.
_OF_BACKBONE = {
    EVALUATIONS: ("evaluate", ("metrics.json", "confusion.csv", *(f"{name}.csv" for name in _CALIBRATIONS))),
    TUNING: ("tune", ("search.json", "trials.csv")),
    MODELS: ("finetune", ("history.csv", "predictions.csv", "repeats.csv", "provenance.json")),
    EXPLANATIONS: ("explain", ("examples.csv", "embedding.csv", "precision.json")),
}

_log = logging.getLogger(__name__)


def require(backbones: list[str]) -> None:
    """Raise DataError that names every missing artefact and the command that makes them."""
    needed = {AUDIT: "audit", SPLITS: "split", MANIFEST: "ingest", RAW: "ingest", RANKING: "rank"}
    for backbone in backbones:
        for folder, (stage, names) in _OF_BACKBONE.items():
            # One stage evaluates all, and one searches for all.
            command = stage if folder in (EVALUATIONS, TUNING) else f"{stage}@{backbone}"
            needed |= {folder / backbone / name: command for name in names}
        needed[BENCHMARKS / f"{backbone}.json"] = f"benchmark@{backbone}"
        needed |= {TIMINGS / stage / f"{backbone}.json": f"{stage}@{backbone}" for stage in ("unfreeze", "finetune")}
    missing = [path for path in needed if not path.exists()]
    if missing:
        stages = dict.fromkeys(needed[path] for path in missing)
        raise DataError(
            f"no {', '.join(map(str, missing))}",
            "the artefacts of every backbone in params.yaml",
            f"run 'dvc repro {' '.join(stages)}'",
        )


def read_run(backbone: str) -> Run:
    """Return all that the other stages wrote about one backbone."""
    model, evaluation = MODELS / backbone, EVALUATIONS / backbone
    # A loss that is not finite is written as an empty cell, and so is a mean of no images.
    history = files.read_csv(model / "history.csv", text=("phase",))
    numbers = history.columns.drop("phase")
    bins = [files.read_csv(evaluation / f"{name}.csv").apply(pd.to_numeric) for name in _CALIBRATIONS]
    origin = files.read_json(model / "provenance.json")
    repeats = read_predictions(model / "repeats.csv", ("repeat", *COLUMNS))
    return Run(
        backbone=backbone,
        metrics=files.read_json(evaluation / "metrics.json"),
        confusion=files.read_csv(evaluation / "confusion.csv", text=("actual", "predicted")),
        calibration=bins[0],
        calibration_scaled=bins[1],
        benchmark=files.read_json(BENCHMARKS / f"{backbone}.json"),
        history=history.assign(**{name: pd.to_numeric(history[name]) for name in numbers}),
        provenance=origin,
        timings=_seconds(backbone),
        tested=tested(read_predictions(model / "predictions.csv"), tuple(origin["classes"])),
        repeats=repeats[repeats["split"] == "test"],
        search=files.read_json(TUNING / backbone / "search.json"),
        precision=files.read_json(EXPLANATIONS / backbone / "precision.json"),
        trials=files.read_csv(TUNING / backbone / "trials.csv", text=("state", "optimizer", "units")),
    )


def _seconds(backbone: str) -> dict[str, float]:
    """Return how long the dense head and the blocks of a backbone were trained."""
    keys = {"head_seconds": "finetune", "finetune_seconds": "unfreeze"}
    return {key: files.read_json(TIMINGS / stage / f"{backbone}.json")["seconds"] for key, stage in keys.items()}


def read_ranking_agreement(ranking: list[Run], measure: Measure, language: Language) -> RankingAgreement:
    """Return how the ranking before training compares with the final `ranking`."""
    table, declared = files.read_csv(RANKING, text=("backbone", "apart", "weights")), params.declared_backbones()
    if missing := [backbone for backbone in declared if backbone not in set(table["backbone"])]:
        raise DataError(f"{RANKING} without {', '.join(missing)}", "all declared backbones", "run 'dvc repro rank'")
    if measure.key not in table:
        raise DataError(f"{RANKING} without {measure.key}", "a ranking by report.measure", "run 'dvc repro rank'")
    table = table[table["backbone"].isin(declared)]
    # What a backbone without features lacks is an empty cell.
    numbers = {name: pd.to_numeric(table[name]) for name in (*NUMBERS, measure.key)}
    return ranking_agreement(table.assign(**numbers), ranking, measure, language)


def read_provenance(audit: dict[str, Any]) -> provenance.Provenance:
    """Return where the numbers come from."""
    return provenance.provenance(
        files.read_csv_chunks(MANIFEST, ("label", "sha256")),
        files.read_csv_chunks(SPLITS, ("file", "split")),
        audit,
        params.as_written(),
        params.as_written(provenance.DEFAULTS),
    )


def read_paths(names: set[str]) -> dict[str, str]:
    """Return where the images of these `names` in data/raw lie in the source."""
    chunks = files.read_csv_chunks(MANIFEST, ("file", "path"))
    rows = (row for chunk in chunks for row in zip(chunk["file"], chunk["path"], strict=True))
    return {file: path for file, path in rows if file in names}


def gather_contest(found: list[Run], measure: Measure) -> Contest:
    """Return the answers of each backbone to the test images, in each of its trainings, by the measure."""
    tables = {run.backbone: run.tested for run in found}
    repeats = {run.backbone: run.repeats for run in found}
    if measure.of_probabilities:
        # Runs hold predicted classes only: probabilities of many classes are large, and no other measure needs them.
        tables, repeats = ({name: _with_probabilities(name, file) for name in tables} for file in _PREDICTED)
    temperatures = {run.backbone: run.metrics["temperature"] for run in found}
    return read_contest(measure, tables, read_groups(SPLITS), repeats, temperatures)


def _with_probabilities(backbone: str, file: str) -> pd.DataFrame:
    table = read_predictions(MODELS / backbone / file)
    return table[table["split"] == "test"]


def gather_evidence(found: list[Run], audit: dict[str, Any], settings: ReportParams) -> Evidence:
    """Return what the verdict is drawn from."""
    measure = Measure.of(settings)
    declared, contest = params.read(), gather_contest(found, measure)
    confidence, resamples = (params.lookup(declared, f"evaluate.{key}") for key in ("confidence", "resamples"))
    return Evidence(
        found,
        params.declared_backbones(),
        contest,
        PairwiseComparisons(pairwise.all_pairs(contest, confidence), measure, confidence),
        audit,
        params.lookup(declared, "split.use_folders"),
        settings.margin / 100,
        settings.prefer,
        resamples,
        params.seed(),
    )


def _write_summary(found: list[Run], metrics: dict[str, Any], measure: Measure) -> None:
    """Write DVC's metrics of each backbone."""
    with files.replacing_folder(SUMMARY) as folder:
        for run in found:
            files.write_json(folder / f"{run.backbone}.json", runs.compared(metrics[run.backbone], measure))


def _write_plots(found: list[Run], pairs: pd.DataFrame) -> None:
    files.write_csv(PLOTS / "learning_curves.csv", runs.learning_curves(found))
    files.write_csv(PLOTS / "confusion.csv", runs.confusion(found))
    files.write_csv(PLOTS / "accuracy.csv", runs.accuracies(found))
    files.write_csv(PLOTS / "training_shares.csv", runs.training_shares(found))
    files.write_csv(PLOTS / "recall.csv", runs.recalls(found))
    files.write_csv(PLOTS / "calibration.csv", runs.calibrations(found))
    files.write_csv(PLOTS / "pairwise_comparison.csv", pairs)
    _write_folds(found)


def _write_folds(found: list[Run]) -> None:
    """Write the accuracies in each fold, or remove those of an earlier comparison where there are no folds."""
    path = PLOTS / "folds.csv"
    if found[0].folds:
        files.write_csv(path, runs.fold_accuracies(found))
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    """Compare all declared backbones."""
    backbones, settings = params.declared_backbones(), params.load(ReportParams, "report")
    language = catalogues.named(settings.language)
    require(backbones)
    found = [read_run(backbone) for backbone in backbones]
    runs.check(found, Measure.of(settings))
    audit = files.read_json(AUDIT)
    evidence = gather_evidence(found, audit, settings)
    chosen = evidence.verdict.chosen
    recommended = chosen.backbone if chosen else None
    setting = Setting.of(params.as_written())
    summary = runs.summary(evidence.ranking, recommended, evidence.resampled, evidence.measure, setting.preset)
    material = page.Material(
        evidence,
        transfer(evidence.ranking, evidence.comparisons, language),
        read_ranking_agreement(evidence.ranking, evidence.measure, language),
        read_provenance(audit),
        {backbone: read_explanation(EXPLANATIONS / backbone) for backbone in backbones},
        RAW,
        read_paths(set(found[0].tested["file"])),
        files.read_csv(SPLITS, categories=("label", "split"), columns=("label", "split")),
        settings.examples,
        setting,
    )
    html, markdown = page.page(material, language), markdown_summary.markdown(material, language)

    files.write_json(METRICS, summary)
    _write_summary(found, summary, evidence.measure)
    # The template writes percentages where there is no such column.
    marked = {} if evidence.measure.share else {"measure": evidence.measure.name}
    _write_plots(found, evidence.comparisons.table.assign(**marked))
    files.write_text(REPORT / "comparison.html", html)
    files.write_text(REPORT / "comparison.md", markdown)
    _log.info("best of %d backbones: %s; %s", len(found), summary[BEST], REPORT / "comparison.html")


if __name__ == "__main__":
    run(main)
