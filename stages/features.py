"""Stage `features@B`: run the frozen part of a backbone once over every prepared view.

Writes `data/features/B/`: for each split `SPLIT.npy`, float32 (rows, width), and where phase 2 unfreezes
blocks `cut_SPLIT.npy`, float16 (rows, ...), the activations below them; rows as in `data/prepared/index.csv`.
Those are multiplied by `cut_scale` to use the range of the type. `features.json` says what computed them. A
network without a frozen part, such as `scratch`, has no features.
"""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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


def extract(pictures: Path, prefix: Path, network: Forward, batch_size: int, cut_scale: float = 1.0) -> None:
    """Write the outputs of `network` for every row of the array file `pictures`.

    "features" goes to `prefix`.npy in float32; "cut", if the network gives it, to cut_`prefix`.npy in float16,
    multiplied by `cut_scale`. Raises EngineError when the network overflows in the precision it is computed in.
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
                writers[name].append(found if name == "features" else _halved(found, cut_scale))
            bar.update(len(batch))


def _require_finite(found: NDArray[np.float32], name: str) -> None:
    if not np.isfinite(found).all():
        raise EngineError(
            f"{name} that are not finite numbers", "numbers", "set features.precision to float32 or bfloat16"
        )


def _halved(found: NDArray[np.float32], scale: float) -> NDArray[np.float16]:
    """Return `found` times `scale` in float16; what lies some 60,000 times above the usual is cut off there."""
    largest = float(np.finfo(np.float16).max) / scale
    return (found.clip(-largest, largest) * np.float32(scale)).astype(np.float16)


def _writer(prefix: Path, name: str, count: int, shape: tuple[int, ...]) -> ArrayWriter:
    if name == "features":
        return ArrayWriter(prefix.with_name(f"{prefix.name}.npy"), count, shape, np.float32)
    return ArrayWriter(prefix.with_name(f"{name}_{prefix.name}.npy"), count, shape, np.float16)


def _scale(network: Forward, pictures: Path) -> float:
    """Return the power of two, which costs no digits, that brings the activations of a picture to the order of 1."""
    usual = float(np.sqrt(np.mean(np.square(network(read_rows(pictures, 0, 1))["cut"], dtype=np.float64))))
    return float(2.0 ** -np.round(np.log2(usual))) if np.isfinite(usual) and usual else 1.0


def _cut(facts: Mapping[str, Any], pictures: Mapping[str, Path], limit: float) -> str:
    """Say what becomes of the activations at the cut: there are "none", "kept" ones, or those of each epoch "anew"."""
    if facts["cut"] is None:
        return "none"
    needed = sum(map(count_rows, pictures.values())) * np.prod(facts["cut_shape"]) * np.float16().nbytes / 1e9
    if needed <= limit:
        return "kept"
    log.warning(
        "%s: activations for phase 2 would take %.3g GB, more than features.max_cache_gb = %g: "
        "each epoch computes them anew, which takes longer",
        facts["backbone"], needed, limit,
    )  # fmt: skip
    return "anew"


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
        pictures = {split: array_path(PREPARED, facts["input_size"], split) for split in SPLITS}
        cut = _cut(facts, pictures, params.max_cache_gb)
        network = forward(weights, choice, None if cut == "kept" else "features")
        scale = _scale(network, pictures["train"]) if cut == "kept" else 1.0
        for split, path in pictures.items():
            extract(path, folder / split, network, params.batch_size, scale)
        write_json(folder / "features.json", vars(choice) | {"cut": cut, "cut_scale": scale})


if __name__ == "__main__":
    run(main)
