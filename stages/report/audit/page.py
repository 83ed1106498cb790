"""The audit's page: what is wrong with the images, with the images themselves, in one HTML file."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.dataset.prepared import DROPPED, SPLITS
from stages.core.settings.audit import AuditParams
from stages.pages.templates import render
from stages.pages.thumbnails import SIDE, data_uris
from stages.report.audit import figures as audit_figures
from stages.report.audit.counts import Tables, distinct, exact_copies, near_copies, outliers, rare, true_rejects
from stages.report.findings import findings

# Paths in a line to paste.
_MOST_PASTED = 10
# Reasons of rejects that are a finding of their own, or none.
_SETTLED = ("excluded:", "two labels:")
# Characters that JSON leaves as they are and YAML refuses in quotes, or reads as others (U+0085 as a space).
_ALTERED_BY_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufffe\uffff]")


@dataclass(frozen=True)
class Folders:
    """Where the images are: those that were accepted, and those with two labels."""

    raw: Path
    quarantine: Path


@dataclass(frozen=True)
class Tile:
    """One image on a contact sheet: path, label and split, and a note."""

    file: Path
    path: str
    label: str
    split: str = ""
    note: str = ""
    suggested: str = ""


@dataclass(frozen=True)
class Sheet:
    """Images side by side, in groups; `more` of them are only in `table`."""

    groups: list[list[Tile]]
    more: int
    table: str

    def files(self) -> Iterable[Path]:
        """Yield the files of the images."""
        return (tile.file for group in self.groups for tile in group)


def page(
    tables: Tables, audit: Mapping[str, Any], suspects: pd.DataFrame, params: AuditParams, folders: Folders
) -> str:
    """Return audit.html. `audit` is data/audit.json, `suspects` data/suspects.csv."""
    manifest, tested = tables.manifest, suspects["split"] == "test"
    sheet = _Sheets(folders.raw, params.thumbnails)
    sheets = {
        "conflicts": _Sheets(folders.quarantine, params.thumbnails)(
            tables.quarantine.sort_values(["group", "path"]), "data/quarantine/index.csv", "group"
        ),
        "exact": sheet(exact_copies(manifest), "data/manifest.csv", "pixels_sha256"),
        "near": sheet(near_copies(manifest), "data/manifest.csv", "near"),
        "leaks": sheet(_leaks(tables), "data/leaks.csv", "group", _leak),
        "suspects": sheet(suspects[~tested], "data/suspects.csv", note=_doubt),
        "suspects_in_test": sheet(suspects[tested], "data/suspects.csv", note=_doubt),
    }
    odd = {
        kind: sheet(table, "data/manifest.csv", note=partial(_score, kind=kind))
        for kind, table in outliers(manifest, params.outliers).items()
    }
    shown = [file for found in (*sheets.values(), *odd.values()) for file in found.files()]
    return render(
        Path(__file__).with_name("audit.html.j2"),
        audit=audit,
        findings=findings(audit),
        absent=_absent(audit),
        most_pasted=_MOST_PASTED,
        lines=_lines(tables, suspects[~tested], params),
        splits=(*SPLITS, DROPPED) if audit["splits"][DROPPED] else SPLITS,
        classes=_classes(manifest, audit),
        rejects=true_rejects(tables.rejects).to_dict("records"),
        sheets=sheets,
        outliers=odd,
        thresholds=params.outliers.model_dump(),
        thumbnails=data_uris(shown, "thumbnails"),
        side=SIDE,
        figures=[audit_figures.sizes(manifest), audit_figures.shapes(manifest)],
    )


class _Sheets:
    """Makes contact sheets of images in one folder, each of at most `limit`."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def __call__(
        self, table: pd.DataFrame, where: str, by: str = "", note: Callable[[Any], str] = lambda _: ""
    ) -> Sheet:
        """Return the first rows of `table`; rows with an equal value in column `by` make a group, else all do."""
        first = table.head(self.limit).fillna("")
        keys = first[by] if by else pd.Series(0, index=first.index)
        groups = [
            [self._tile(row, note(row)) for row in rows.to_dict("records")]
            for _, rows in first.groupby(keys, sort=False)
        ]
        return Sheet(groups, len(table) - len(first), where)

    def _tile(self, row: dict[Any, Any], note: str) -> Tile:
        file = self.folder / row["file"]
        return Tile(file, row["path"], row["label"], row.get("split", ""), note, row.get("suggested", ""))


def _lines(tables: Tables, suspects: pd.DataFrame, params: AuditParams) -> dict[str, str]:
    """Return a line for section `data` of params.yaml that leaves out the doubtful images, by section of the page."""
    near, rejects = near_copies(tables.manifest), true_rejects(tables.rejects)
    doubtful = {
        "conflicts": tables.quarantine.sort_values(["group", "path"]),
        "near": near[near["labels"] > 1],
        "leaks": tables.leaks[tables.leaks["action"] != "kept"],
        "suspects": suspects,
        "outliers": distinct(rare(outliers(tables.manifest, params.outliers), len(tables.manifest))),
        "rejects": rejects[~rejects["reason"].str.startswith(_SETTLED)],
    }
    # No more than the page shows.
    most = min(_MOST_PASTED, params.thumbnails)
    excluded = tables.rejects.loc[tables.rejects["reason"].str.startswith("excluded:"), "path"]
    return {
        section: f"  exclude: {_quoted([*excluded, *table['path'].head(most)])}"
        for section, table in doubtful.items()
        if len(table)
    }


def _quoted(paths: list[str]) -> str:
    """Return `paths` as a list that YAML reads as it is."""
    text = json.dumps(paths, ensure_ascii=False)
    return _ALTERED_BY_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _leaks(tables: Tables) -> pd.DataFrame:
    """Return the leaks with label and split, copies beside each other."""
    known = tables.leaks.merge(tables.manifest[["file", "label", "split"]], on="file", validate="one_to_one")
    return known.sort_values(["group", "path"], ignore_index=True)


def _leak(row: Mapping[str, Any]) -> str:
    return f"{row['source_split'] or 'in no split'} in the source, {row['action']}"


def _score(row: Mapping[str, Any], kind: str) -> str:
    return f"score {row[kind]:.2f}"


def _doubt(row: Mapping[str, Any]) -> str:
    return f"{100 * row['p_label']:.0f} % against {100 * row['p_suggested']:.0f} %"


def _absent(audit: Mapping[str, Any]) -> list[str]:
    """Return what the audit looked for and did not find."""
    found = {
        "files to leave out": audit["rejected"],
        "images with two labels": audit["conflicts"]["images"],
        "exact copies": audit["exact_copies"]["images"],
        "near copies": audit["near_copies"]["images"],
        "copies across the source's split": audit["leaks"]["images"],
        "odd images": audit["outliers"]["images"],
    }
    # Without a classifier that could doubt a label none was looked for.
    checked = {"doubtful labels": audit["suspects"]["images"]} if audit["suspects"]["accuracy_of_probes"] else {}
    return [what for what, count in (found | checked).items() if not count]


def _classes(manifest: pd.DataFrame, audit: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the number of images of each class in each split, the largest class first."""
    splits = (*SPLITS, DROPPED) if audit["splits"][DROPPED] else SPLITS
    counts = pd.crosstab(manifest["label"], manifest["split"]).reindex(columns=splits, fill_value=0)
    order = sorted(audit["images"], key=lambda label: (-audit["images"][label], label))
    return {label: [int(counts[split].get(label, 0)) for split in splits] for label in order}
