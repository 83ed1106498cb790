"""What is known about the images, counted, and which labels deserve a second look.

The tables are those that ingest and split wrote: the manifest (a row for each accepted image), the rejects, the images
with two labels (quarantine), the splits and the leaks.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.dataset.duplicates import groups
from stages.core.dataset.prepared import DROPPED, FEW, SPLIT_AGAIN, SPLITS
from stages.core.predictions import PREFIX
from stages.core.settings.audit import AuditParams, Outliers
from stages.report.findings import is_common

# Columns of data/suspects.csv.
SUSPECT_COLUMNS = ["path", "file", "split", "label", "suggested", "p_label", "p_suggested"]
NO_SUSPECTS = pd.DataFrame(columns=SUSPECT_COLUMNS)
# What often lies beside images, and is none: that it is left out needs no attention.
_TEXTS = frozenset(
    {".csv", ".htm", ".html", ".ini", ".json", ".log", ".md", ".rst", ".tsv", ".txt", ".xml", ".yaml", ".yml"}
)

# Kinds of reasons that a file which is no image can have.
_NO_IMAGES = ("no class", "not an image", "empty file", "too large")


@dataclass(frozen=True)
class Tables:
    """What ingest and split wrote. `manifest` has split and group of each image, and copies (see `with_copies`)."""

    manifest: pd.DataFrame
    rejects: pd.DataFrame
    quarantine: pd.DataFrame
    leaks: pd.DataFrame


@dataclass(frozen=True)
class Probes:
    """What linear probes predict of the labels, averaged over backbones with the same kind of weights.

    `accuracies` are those of the backbones that take part; `weights` says what these carry; where none takes part,
    "random" or, without any frozen backbone, "none". `table` has file, label and a column p:<class> for each class.
    `balanced` says whether every backbone is trained with class_weight: balanced.
    """

    accuracies: dict[str, float]
    weights: str
    table: pd.DataFrame
    balanced: bool = False


def taking_part(facts: dict[str, dict[str, Any]]) -> tuple[list[str], str]:
    """Return the backbones whose probes judge labels, and their weights, from each one's probe.json.

    Random weights take no part: they doubt too many correct labels.
    """
    able = {backbone: found["weights"] for backbone, found in facts.items() if found["frozen"] and found["images"]}
    published = [backbone for backbone, weights in able.items() if weights != "random"]
    if published:
        return published, ", ".join(sorted({able[backbone] for backbone in published}))
    return [], "random" if able else "none"


def with_copies(manifest: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """Return `manifest` with `near` for `phash` and `colours`: equal for images that are copies of one another.

    Unlike `group` it leaves out what only the source puts together. `limit` is data.near_duplicates.
    """
    near = groups(manifest.assign(source_group=""), limit)
    return manifest.drop(columns=["phash", "colours"]).assign(near=near)


def exact_copies(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the images of which there is another with equal pixels, copies beside each other."""
    again = manifest["pixels_sha256"].duplicated(keep=False)
    return manifest[again].sort_values(["pixels_sha256", "path"], ignore_index=True)


def near_copies(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the images of groups that look alike and differ in their pixels; several labels come first."""
    by_group = manifest.groupby("near")
    apart = by_group["pixels_sha256"].transform("nunique") > 1
    labels = by_group["label"].transform("nunique")
    found = manifest.assign(labels=labels)[apart]
    return found.sort_values(["labels", "near", "path"], ascending=[False, True, True], ignore_index=True)


def outliers(manifest: pd.DataFrame, thresholds: Outliers) -> dict[str, pd.DataFrame]:
    """Return the odd images of each kind, the lowest score first; the column named after the kind has the score."""
    return {
        kind: manifest[manifest[kind] < threshold].sort_values([kind, "path"], ignore_index=True)
        for kind, threshold in thresholds.model_dump().items()
    }


def distinct(odd: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the `outliers` of all kinds, each image once."""
    return pd.concat(odd.values()).drop_duplicates("path")


def rare(odd: Mapping[str, pd.DataFrame], images: int) -> dict[str, pd.DataFrame]:
    """Return the `outliers` of those kinds that do not mark the data set: few of its `images` have them."""
    return {kind: table for kind, table in odd.items() if not is_common(len(table), images)}


def suspects(manifest: pd.DataFrame, probes: Probes) -> pd.DataFrame:
    """Return the images whose label is doubtful, the most doubtful first, with the columns `SUSPECT_COLUMNS`.

    By confident learning: Northcutt, Jiang and Chuang 2021, https://arxiv.org/abs/1911.00068, as in cleanlab.
    """
    table = probes.table
    classes = [column.removeprefix(PREFIX) for column in table.columns if column.startswith(PREFIX)]
    labels = pd.Index(classes).get_indexer(pd.Index(table["label"]))
    if len(np.unique(labels)) < 2:  # noqa: PLR2004 (with one class there is nothing to confuse)
        return NO_SUSPECTS
    probabilities = table[[PREFIX + name for name in classes]].to_numpy(dtype=np.float64)
    rows = _doubtful(labels, probabilities)
    best = probabilities[rows].argmax(axis=1)
    found = pd.DataFrame(
        {
            "file": table["file"].to_numpy()[rows],
            "label": table["label"].to_numpy()[rows],
            "suggested": np.array(classes, dtype=object)[best],
            "p_label": probabilities[rows, labels[rows]],
            "p_suggested": probabilities[rows, best],
        }
    )
    named = found.merge(manifest[["file", "path", "split"]], on="file", validate="one_to_one")
    return named.sort_values(["p_label", "path"], ignore_index=True)[SUSPECT_COLUMNS]


def _doubtful(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    from cleanlab.filter import find_label_issues

    with warnings.catch_warnings():
        # A class of which nothing could be held out, or of one image only, has no doubtful labels.
        warnings.filterwarnings("ignore", message="May not flag all label issues")
        # One process: forking costs more than the work.
        found = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return np.asarray(found, dtype=np.int64)


def numbers(tables: Tables, found: pd.DataFrame, probes: Probes, params: AuditParams) -> dict[str, Any]:
    """Return data/audit.json; `found` are the `suspects`."""
    manifest, near, rejects = tables.manifest, near_copies(tables.manifest), true_rejects(tables.rejects)
    exact, odd = exact_copies(manifest), outliers(manifest, params.outliers)
    counts = manifest["label"].value_counts()
    # Of a folder with nothing but a text, too: its class has no image.
    labels = sorted({*manifest["label"], *tables.rejects["label"]} - {""})
    training = manifest.loc[manifest["split"] == "train", "label"].value_counts()
    training_of_each = {label: int(training.get(label, 0)) for label in sorted(counts.index)}
    kinds = rejects["reason"].str.split(":").str[0].value_counts()
    splits = manifest["split"].value_counts()
    return {
        "accepted": len(manifest),
        "rejected": len(rejects),
        "reasons": {str(kind): int(count) for kind, count in kinds.items()},
        "beside_images": len(tables.rejects) - len(rejects),
        "classes": len(counts),
        "images": {label: int(counts.get(label, 0)) for label in labels},
        "splits": {split: int(splits.get(split, 0)) for split in (*SPLITS, DROPPED)},
        "groups": _groups_of_splits(manifest),
        "smallest_class_training_images": min(training_of_each.values()),
        "small_classes": {label: count for label, count in training_of_each.items() if count < FEW},
        "imbalance": float(counts.max() / counts.min()),
        "balanced": probes.balanced,
        "exact_copies": _groups(exact, "pixels_sha256"),
        "near_copies": _groups(near, "near") | {"under_two_labels": _under_two_labels(near)},
        "conflicts": _groups(tables.quarantine, "group"),
        "leaks": _leaks(tables.leaks),
        "outliers": {"images": len(distinct(odd))} | {kind: len(table) for kind, table in odd.items()},
        "suspects": {
            "images": len(found),
            "test": int((found["split"] == "test").sum()),
            "share": len(found) / len(probes.table) if len(probes.table) else None,
            "weights": probes.weights,
            "accuracy_of_probes": probes.accuracies,
        },
    }


def true_rejects(rejects: pd.DataFrame) -> pd.DataFrame:
    """Return the rejects without what is no image by its name: texts, and what is hidden."""
    beside = [_lies_beside(*row) for row in zip(rejects["path"], rejects["reason"], strict=True)]
    return rejects[~np.array(beside, dtype=np.bool_)]


def _lies_beside(path: str, reason: str) -> bool:
    kind = reason.split(":", maxsplit=1)[0]
    return kind == "hidden" or (kind in _NO_IMAGES and PurePosixPath(path.lower()).suffix in _TEXTS)


def _groups_of_splits(manifest: pd.DataFrame) -> dict[str, int]:
    """Return in how many groups the images of each split come; nothing where the source names no groups."""
    if not (manifest["source_group"] != "").any():
        return {}
    distinct = manifest.groupby("split")["group"].nunique()
    return {split: int(distinct.get(split, 0)) for split in (*SPLITS, DROPPED)}


def _leaks(leaks: pd.DataFrame) -> dict[str, Any]:
    """Return how many images the source's own split separates from their copies, and of how many it does by its test.

    `test` counts the images of groups of which the source has some among its test images.
    """
    tested = leaks.loc[leaks["source_split"] == "test", "group"]
    used = bool((leaks["action"] != SPLIT_AGAIN).any())
    return _groups(leaks, "group") | {"test": int(leaks["group"].isin(tested).sum()), "split_used": used}


def _groups(table: pd.DataFrame, column: str) -> dict[str, int]:
    return {"groups": int(table[column].nunique()), "images": len(table)}


def _under_two_labels(near: pd.DataFrame) -> int:
    return int(near.loc[near["labels"] > 1, "near"].nunique())
