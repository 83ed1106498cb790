"""Stage compare: the numbers of all declared backbones side by side, for git, for DVC and for people.

    python -m stages.compare

Reads what evaluate, benchmark and finetune wrote for each backbone of params.yaml, and for no other,
and writes data/metrics.json, data/plots and the report.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from stages import files, params
from stages.errors import DataError, run

if TYPE_CHECKING:
    from stages.results.runs import Run

EVALUATIONS = Path("data/evaluations")
BENCHMARKS = Path("data/benchmarks")
MODELS = Path("data/models")
SPLITS = Path("data/splits.csv")
AUDIT = Path("data/audit.json")
METRICS = Path("data/metrics.json")
PLOTS = Path("data/plots")
REPORT = Path("data/report")

_log = logging.getLogger(__name__)


def require(backbones: list[str]) -> None:
    """Raise DataError that names every missing artefact and the command that makes them."""
    needed = {AUDIT: "audit", SPLITS: "split"}
    for backbone in backbones:
        for name in ("metrics.json", "confusion.csv"):
            needed[EVALUATIONS / backbone / name] = f"evaluate@{backbone}"
        needed[BENCHMARKS / f"{backbone}.json"] = f"benchmark@{backbone}"
        for name in ("history.csv", "provenance.json"):
            needed[MODELS / backbone / name] = f"finetune@{backbone}"
    missing = [path for path in needed if not path.exists()]
    if missing:
        stages = dict.fromkeys(needed[path] for path in missing)
        raise DataError(
            f"no {', '.join(map(str, missing))}",
            "the artefacts of every backbone in params.yaml",
            f"run 'dvc repro {' '.join(stages)}'",
        )


def read_run(backbone: str) -> "Run":
    """Return all that the other stages wrote about one backbone."""
    import pandas as pd

    from stages.results.runs import Run

    # A loss that is not finite is written as an empty cell.
    history = files.read_csv(MODELS / backbone / "history.csv", text=("phase",))
    numbers = history.columns.drop("phase")
    return Run(
        backbone=backbone,
        metrics=files.read_json(EVALUATIONS / backbone / "metrics.json"),
        confusion=files.read_csv(EVALUATIONS / backbone / "confusion.csv", text=("actual", "predicted")),
        benchmark=files.read_json(BENCHMARKS / f"{backbone}.json"),
        history=history.assign(**{name: pd.to_numeric(history[name]) for name in numbers}),
        provenance=files.read_json(MODELS / backbone / "provenance.json"),
    )


def _write_folds(found: "list[Run]") -> None:
    """Write the accuracies in each fold, or remove those of an earlier comparison where there are no folds."""
    from stages.results import runs

    path = PLOTS / "folds.csv"
    if found[0].folds:
        files.write_csv(path, runs.fold_accuracies(found))
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    """Compare all declared backbones."""
    from stages.results import report, runs

    backbones = params.declared_backbones()
    require(backbones)
    found = [read_run(backbone) for backbone in backbones]
    runs.check(found)
    summary = runs.summary(found)
    splits = files.read_csv(SPLITS, categories=("label", "split"), columns=("label", "split"))
    audit = files.read_json(AUDIT)
    page, markdown = report.page(found, splits, audit), report.markdown(found, audit)

    files.write_json(METRICS, summary)
    files.write_csv(PLOTS / "learning_curves.csv", runs.learning_curves(found))
    files.write_csv(PLOTS / "confusion.csv", runs.confusion(found))
    files.write_csv(PLOTS / "accuracy.csv", runs.accuracies(found))
    _write_folds(found)
    files.write_text(REPORT / "comparison.html", page)
    files.write_text(REPORT / "comparison.md", markdown)
    _log.info("best of %d backbones: %s; %s", len(found), summary[runs.BEST], REPORT / "comparison.html")


if __name__ == "__main__":
    run(main)
