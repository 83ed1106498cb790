"""Stage `features@B`: run the frozen part of a backbone once over every prepared view.

Writes `data/features/B/`: for each split `SPLIT.npy`, float32 (rows, width), and where phase 2 unfreezes
blocks `cut_SPLIT.npy`, float32 (rows, ...), the activations below them; rows as in
`data/prepared/index.csv`. `features.json` says what computed them. A network without a frozen part,
such as `scratch`, has no features.
"""

import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages.errors import EngineError, run
from stages.files import read_json, replacing_folder, write_json
from stages.images.prepared import SPLITS, ArrayWriter, array_path, batches, count_rows, read_rows
from stages.models.engine import Choice, EngineParams, choose
from stages.models.extraction import Forward, forward
from stages.params import load, named_backbone, threads

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")


def extract(pictures: Path, prefix: Path, network: Forward, batch_size: int) -> None:
    """Write the outputs of `network` for every row of the array file `pictures`.

    "features" goes to `prefix`.npy, any other output to a file with its name in front.
    Raises EngineError when the network overflows in the precision it is computed in.
    """
    count = count_rows(pictures)
    first = network(read_rows(pictures, 0, 1))
    with ExitStack() as stack, tqdm(total=count, unit="view", desc=prefix.name, disable=None) as bar:
        writers = {
            name: stack.enter_context(_writer(prefix, name, count, found.shape[1:])) for name, found in first.items()
        }
        for batch in batches(pictures, batch_size):
            for name, found in network(batch).items():
                _require_finite(found, name)
                writers[name].append(found)
            bar.update(len(batch))


def _require_finite(found: NDArray[np.float32], name: str) -> None:
    if not np.isfinite(found).all():
        raise EngineError(
            f"{name} that are not finite numbers", "numbers", "set features.precision to float32 or bfloat16"
        )


def _writer(prefix: Path, name: str, count: int, shape: tuple[int, ...]) -> ArrayWriter:
    file = f"{prefix.name}.npy" if name == "features" else f"{name}_{prefix.name}.npy"
    return ArrayWriter(prefix.with_name(file), count, shape, np.float32)


def main() -> None:
    """Write `data/features/B/` for the backbone named on the command line."""
    name = named_backbone()
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
        if choice.engine == "tensorflow":
            from stages.models.keras_engine import repeatable

            repeatable(0, choice.threads)
        network = forward(weights, choice)
        for split in SPLITS:
            extract(array_path(PREPARED, facts["input_size"], split), folder / split, network, params.batch_size)
        write_json(folder / "features.json", vars(choice))


if __name__ == "__main__":
    run(main)
