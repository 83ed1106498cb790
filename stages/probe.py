"""Stage `probe@B`: predict each picture from the backbone's frozen features, by fits that never saw it.

Writes `data/probes/B/`: probabilities.csv (file, label, a column p:<class> for each class; sorted by
file) and probe.json (accuracy of these predictions, and what they rest on). Costs seconds, trains no
network: stage audit finds doubtful labels with it.

Stage rank must not look at the test part. For it the same is done anew without these pictures: ranking.csv
(file, label, predicted) and ranking.json (accuracy, log loss, LogME, and what they rest on).
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages import files, params
from stages.errors import DataError, run
from stages.images.prepared import ArrayWriter, read_index
from stages.results.linear_probe import ProbeParams
from stages.results.predictions import PREFIX

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

PREPARED = Path("data/prepared")
SPLIT_TABLE = Path("data/splits.csv")
WEIGHTS = Path("data/weights")
FEATURES = Path("data/features")
PROBES = Path("data/probes")

# Numbers of what no fit has predicted.
NO_SCORES = {"log_loss": None, "logme": None}
# Features in memory at a time.
_BATCH_BYTES = 4 << 20

_log = logging.getLogger(__name__)


def pictures(index: "pd.DataFrame", splits: "pd.DataFrame") -> "pd.DataFrame":
    """Return split, row, file, label and group of each picture itself (view 0), sorted by file."""
    own = index.loc[index["view"] == 0, ["split", "row", "file", "label"]]
    return own.merge(splits[["file", "group"]], on="file", validate="one_to_one").sort_values("file", ignore_index=True)


def read_features(folder: Path, table: "pd.DataFrame") -> "Iterator[NDArray[np.float32]]":
    """Yield the features of the pictures of `table`, (n, width), in its order, some megabytes at a time."""
    import numpy as np

    width = np.load(folder / f"{table['split'].iloc[0]}.npy", mmap_mode="r", allow_pickle=False).shape[1]
    size = max(1, _BATCH_BYTES // (4 * width))
    for start in range(0, len(table), size):
        part = table.iloc[start : start + size]
        batch = np.empty((len(part), width), np.float32)
        for split in part["split"].unique():
            here = (part["split"] == split).to_numpy()
            batch[here] = _rows(folder / f"{split}.npy", part["row"].to_numpy()[here])
        yield batch


def probe(table: "pd.DataFrame", folder: Path, wanted: int, seed: int) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """Return the predictions for the pictures of `table` from the features in `folder`, and numbers about them."""
    import numpy as np
    import pandas as pd
    from threadpoolctl import threadpool_limits

    from stages.results import linear_probe

    labels, classes = pd.factorize(table["label"], sort=True)
    groups, _ = pd.factorize(table["group"])
    folds = linear_probe.usable_folds(labels, groups, wanted)
    # These products are small: two threads spend three to six times as long as one, waiting for each other.
    with threadpool_limits(1), _reduced(table, folder, seed) as features:
        found = linear_probe.out_of_fold(features, labels, groups, folds, seed)
    known = ~np.isnan(found).any(axis=1)
    predictions = _with_probabilities(table.iloc[np.flatnonzero(known)], found[known], list(classes))
    right = found[known].argmax(axis=1) == labels[known]
    return predictions, {
        "accuracy": float(right.mean()) if len(right) else None,
        "pictures": len(right),
        "left_out": int((~known).sum()),
        "folds": folds,
    }


def rankable(table: "pd.DataFrame", folder: Path, wanted: int, seed: int) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """Return file, label and predicted of the pictures that train and choose, and numbers to rank by.

    No picture of the test part takes part in any way.
    """
    import numpy as np
    import pandas as pd

    from stages.results import metrics

    seen = table[table["split"] != "test"].reset_index(drop=True)
    predictions, numbers = probe(seen, folder, wanted, seed)
    classes = pd.Index([name.removeprefix(PREFIX) for name in predictions.columns[2:]])
    probabilities = predictions[predictions.columns[2:]].to_numpy()
    named = predictions[["file", "label"]].assign(predicted=classes[probabilities.argmax(axis=1)])
    if named.empty:
        return named, numbers | NO_SCORES
    labels = np.asarray(classes.get_indexer(pd.Index(named["label"])), dtype=np.int64)
    loss = metrics.log_loss(labels, probabilities)
    held_out = seen[seen["file"].isin(named["file"])].reset_index(drop=True)
    return named, numbers | {"log_loss": loss, "logme": _logme(held_out, labels, folder, seed)}


def _logme(table: "pd.DataFrame", labels: "NDArray[np.int64]", folder: Path, seed: int) -> float:
    """Return LogME of the pictures of `table`, of at most as many as a fit sees, by their features as they are."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from stages.results import linear_probe
    from stages.results.logme import logme

    chosen = linear_probe.drawn(np.arange(len(table)), labels, linear_probe.MOST_FITTED, seed)
    # As for the fits: the last digits do not depend on the number of threads.
    with threadpool_limits(1):
        return logme(linear_probe.narrowed(read_features(folder, table.iloc[chosen]), seed), labels[chosen])


@contextmanager
def _reduced(
    table: "pd.DataFrame", folder: Path, seed: int
) -> "Iterator[Callable[[NDArray[np.int64]], NDArray[np.float32]]]":
    """Give what reads the reduced features of the pictures at some positions of `table`; they lie on disk."""
    import numpy as np

    from stages.results import linear_probe

    reduce = linear_probe.reduction(read_features(folder, table), seed)
    scratch = files.scratch_folder(f"probe-{folder.name}")
    path = scratch / "reduced.npy"
    try:
        first = reduce(next(read_features(folder, table.iloc[:1])))
        with ArrayWriter(path, len(table), first.shape[1:], np.float32) as writer:
            for batch in read_features(folder, table):
                writer.append(reduce(batch))
        size = max(1, _BATCH_BYTES // first.nbytes)
        yield lambda positions: np.concatenate(
            [_rows(path, positions[start : start + size]) for start in range(0, len(positions), size)]
        )
    finally:
        shutil.rmtree(scratch)


def _rows(path: Path, positions: "NDArray[np.int64]") -> "NDArray[np.float32]":
    """Return rows of an array file, which is opened anew: what stays mapped counts as this process's memory."""
    import numpy as np

    found: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)[positions]
    return found


def _with_probabilities(table: "pd.DataFrame", found: "NDArray[np.float64]", classes: list[str]) -> "pd.DataFrame":
    import pandas as pd

    columns = pd.DataFrame(found, columns=[PREFIX + name for name in classes], index=table.index)
    return table[["file", "label"]].join(columns).reset_index(drop=True)


def _nothing(table: "pd.DataFrame") -> "tuple[pd.DataFrame, dict[str, Any]]":
    """Return what stands for the predictions of a backbone that has no frozen features."""
    import numpy as np

    classes = sorted(table["label"].unique())
    empty = _with_probabilities(table.iloc[:0], np.empty((0, len(classes))), classes)
    return empty, {"accuracy": None, "pictures": 0, "left_out": len(table), "folds": 0}


def _nothing_to_rank(table: "pd.DataFrame") -> "tuple[pd.DataFrame, dict[str, Any]]":
    predictions, numbers = _nothing(table[table["split"] != "test"])
    return predictions[["file", "label"]].assign(predicted=[]), numbers | NO_SCORES


def main() -> None:
    """Probe the backbone named on the command line."""
    settings = params.parse(ProbeParams, {"folds": params.lookup(params.read(), "audit.folds")}, "audit")
    seed = params.seed()
    backbone = params.named_backbone()
    try:
        facts = files.read_json(WEIGHTS / backbone / "backbone.json")
        table = pictures(read_index(PREPARED), files.read_csv(SPLIT_TABLE, text=("file", "label", "group")))
        if facts["frozen"]:
            predictions, numbers = probe(table, FEATURES / backbone, settings.folds, seed)
            seen, scores = rankable(table, FEATURES / backbone, settings.folds, seed)
        else:
            _log.info("%s: nothing is frozen, so there is nothing to probe", backbone)
            predictions, numbers = _nothing(table)
            seen, scores = _nothing_to_rank(table)
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", f"the features of '{backbone}'", f"run 'dvc repro features@{backbone}'"
        ) from error
    source = facts["weights"]["source"]
    origin = {"frozen": facts["frozen"], "weights": source}
    with files.replacing_folder(PROBES / backbone) as folder:
        files.write_csv(folder / "probabilities.csv", predictions)
        files.write_json(folder / "probe.json", numbers | origin)
        files.write_csv(folder / "ranking.csv", seen)
        files.write_json(folder / "ranking.json", scores | origin)
    if numbers["accuracy"] is not None:
        _log.info(
            "%s: a linear probe is right on %.3f of %d pictures, weights: %s",
            backbone, numbers["accuracy"], numbers["pictures"], source,
        )  # fmt: skip
    if facts["frozen"] and numbers["left_out"]:
        _log.warning("%s: %d pictures are of classes too small to be held out", backbone, numbers["left_out"])


if __name__ == "__main__":
    run(main)
