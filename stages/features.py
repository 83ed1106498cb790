"""Stage `features@B`: run the frozen part of a backbone once over every prepared view.

Writes `data/features/B/`: for each split `SPLIT.npy`, float32 (rows, width), and where phase 2 unfreezes
blocks `cut_SPLIT.npy`, float16 (rows, ...), the activations below them; rows as in
`data/prepared/index.csv`. `features.json` says what computed them. A network without a frozen part,
such as `scratch`, has no features.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from stages.errors import run
from stages.files import read_json, replacing_folder, write_json
from stages.images.prepared import SPLITS, ArrayWriter, batches, read_rows, rows
from stages.models.engine import Choice, EngineParams, choose, forward
from stages.params import load, threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Forward = Callable[[NDArray[Any]], dict[str, NDArray[np.float32]]]

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")


def extract(pictures: Path, prefix: Path, network: "Forward", batch_size: int) -> None:
    """Write the outputs of `network` for every row of the array file `pictures`.

    "features" goes to `prefix`.npy, any other output to a file with its name in front. Raises
    ValueError when an output leaves the range of the format it is stored in.
    """
    count = rows(pictures)
    first = network(read_rows(pictures, 0, 1))
    writers = {name: _writer(prefix, name, count, found.shape[1:]) for name, found in first.items()}
    with tqdm(total=count, unit="view", desc=prefix.name, disable=None) as bar:
        for batch in batches(pictures, batch_size):
            for name, found in network(batch).items():
                writers[name].append(_stored(found, writers[name].dtype))
            bar.update(len(batch))
    for writer in writers.values():
        writer.close()


def _writer(prefix: Path, name: str, count: int, shape: tuple[int, ...]) -> ArrayWriter:
    if name == "features":
        return ArrayWriter(prefix.with_suffix(".npy"), np.float32, (count, *shape))
    # Half the disk and memory; what is lost is below the noise of one training step.
    return ArrayWriter(prefix.with_name(f"{name}_{prefix.name}.npy"), np.float16, (count, *shape))


def _stored(found: "NDArray[np.float32]", dtype: "np.dtype[Any]") -> "NDArray[Any]":
    with np.errstate(over="ignore"):
        stored = found.astype(dtype, copy=False)
    if not np.isfinite(stored).all():
        raise ValueError(f"activations up to {np.abs(found).max():.3g} do not fit into {dtype}")
    return stored


def main() -> None:
    """Write `data/features/B/` for the backbone named on the command line."""
    name = sys.argv[1]
    weights = Path("data/weights") / name
    facts = read_json(weights / "backbone.json")
    with replacing_folder(Path("data/features") / name) as folder:
        if not facts["frozen"]:
            log.info("%s: nothing is frozen, so there are no features", name)
            write_json(folder / "features.json", {"engine": "none", "precision": "float32"})
            return
        params = load(EngineParams, "features")
        choice: Choice = choose(params, threads())
        log.info("%s: %s in %s on %d threads", name, choice.engine, choice.precision, choice.threads)
        network = forward(weights, choice)
        for split in SPLITS:
            pictures = PREPARED / str(facts["input_size"]) / f"{split}.npy"
            extract(pictures, folder / split, network, params.batch_size)
        write_json(folder / "features.json", vars(choice))


if __name__ == "__main__":
    run(main)
