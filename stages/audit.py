"""Stage audit: what is wrong with the images, as a page, as metrics for DVC, and a list of doubtful labels.

Writes data/report/audit.html, data/audit.json and data/suspects.csv. Removes nothing: what is to be left
out is listed in data.exclude.
"""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import files, params
from stages.core.errors import DataError, run
from stages.core.predictions import read_predictions
from stages.core.settings.audit import AuditParams, Outliers
from stages.core.settings.recipes import read_names
from stages.report.audit import counts
from stages.report.audit import page as audit_page
from stages.report.audit.counts import NO_SUSPECTS, Probes, Tables, taking_part, with_copies
from stages.report.findings import findings

MANIFEST = Path("data/manifest.csv")
REJECTS = Path("data/rejects.csv")
QUARANTINE = Path("data/quarantine")
SPLIT_TABLE = Path("data/splits.csv")
LEAKS = Path("data/leaks.csv")
RAW = Path("data/raw")
PROBES = Path("data/probes")
AUDIT = Path("data/audit.json")
SUSPECTS = Path("data/suspects.csv")
PAGE = Path("data/report/audit.html")

_TEXT = (
    "file",
    "path",
    "label",
    "reason",
    "group",
    "split",
    "pixels_sha256",
    "source_split",
    "source_group",
    "phash",
    "colours",
    "action",
)
# The columns of the manifest that the audit needs: the table is as long as there are images.
_FACTS = ("file", "path", "label", "pixels_sha256", "source_group", "phash", "colours", "width", "height")

_log = logging.getLogger(__name__)


def read_tables(near_duplicates: int | None) -> Tables:
    """Return what ingest and split wrote."""
    facts = files.read_csv(MANIFEST, text=_TEXT, columns=(*_FACTS, *Outliers.model_fields))
    manifest = with_copies(facts, near_duplicates)
    splits = files.read_csv(SPLIT_TABLE, text=_TEXT, columns=("file", "split", "group"))
    return Tables(
        manifest.merge(splits, on="file", validate="one_to_one"),
        files.read_csv(REJECTS, text=_TEXT),
        files.read_csv(QUARANTINE / "index.csv", text=_TEXT),
        files.read_csv(LEAKS, text=_TEXT),
    )


def read_probes(backbones: list[str]) -> Probes:
    """Return the averaged predictions of those of `backbones` that are to judge the labels.

    One table at a time is in memory beside the sum.
    """
    facts = {backbone: files.read_json(PROBES / backbone / "probe.json") for backbone in backbones}
    balanced = all(found["class_weight"] == "balanced" for found in facts.values())
    chosen, weights = taking_part(facts)
    if not chosen:
        return Probes({}, weights, pd.DataFrame(columns=["file", "label"]), balanced)
    names = _probabilities(chosen[0])
    total = names.drop(columns=["file", "label"])
    for backbone in chosen[1:]:
        other = _probabilities(backbone)
        if list(other.columns) != list(names.columns) or not other["file"].equals(names["file"]):
            raise DataError(
                f"the probe of '{backbone}' predicts other images or classes than that of '{chosen[0]}'",
                "the same for all",
                "run 'dvc repro'",
            )
        total += other.drop(columns=["file", "label"])
    averaged = names[["file", "label"]].join(total / len(chosen))
    return Probes({backbone: facts[backbone]["accuracy"] for backbone in chosen}, weights, averaged, balanced)


def _probabilities(backbone: str) -> pd.DataFrame:
    table = read_predictions(PROBES / backbone / "predictions.csv")
    return table.drop(columns=["split", "predicted"])


def main() -> None:
    """Audit the images."""
    settings = params.load(AuditParams, "audit")
    near_duplicates: Any = params.lookup(params.read(), "data.near_duplicates")
    try:
        tables, probes = read_tables(near_duplicates), read_probes(read_names())
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", "the tables of ingest and split, and a probe of every backbone", "run 'dvc repro'"
        ) from error
    suspects = counts.suspects(tables.manifest, probes) if len(probes.table) else NO_SUSPECTS
    numbers = counts.numbers(tables, suspects, probes, settings)
    page = audit_page.page(tables, numbers, suspects, settings, audit_page.Folders(RAW, QUARANTINE))

    files.write_csv(SUSPECTS, suspects)
    files.write_json(AUDIT, numbers)
    files.write_text(PAGE, page)
    for finding in findings(numbers):
        _log.log(logging.INFO if finding.settled else logging.WARNING, "%s", finding)
    _log.info("%d images audited; %s", numbers["accepted"], PAGE)


if __name__ == "__main__":
    run(main)
