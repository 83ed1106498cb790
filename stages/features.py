"""Stage `features@B`: run the frozen network of a backbone once over every prepared image.

Writes `data/features/B/`: for each split `SPLIT.npy`, float32 (rows, width), rows as in `data/prepared/index.csv`, and
`features.json`, which says what computed them. A network without frozen features, such as `scratch`, has none.
"""

import logging
from pathlib import Path

from stages.core.dataset.prepared import SPLITS, array_path, batches, count_rows
from stages.core.errors import run
from stages.core.files import read_json, replacing_folder, write_json
from stages.core.params import load, named_backbone, threads
from stages.core.settings.features import EngineParams
from stages.networks.engine import Choice, choose
from stages.networks.extraction import forward, write_features

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")


def write(folder: Path, weights: Path, choice: Choice, batch_size: int) -> None:
    """Write the features that the network in `weights` has of every prepared image into `folder`."""
    facts, network = read_json(weights / "backbone.json"), forward(weights, choice, ("features",))
    for split in SPLITS:
        images = array_path(PREPARED, facts["input_size"], split)
        shape = (count_rows(images), facts["width"])
        write_features(folder / f"{split}.npy", network, batches(images, batch_size), shape)
    write_json(folder / "features.json", vars(choice))


def main() -> None:
    """Write `data/features/B/` for the backbone named on the command line."""
    name = named_backbone()
    weights = Path("data/weights") / name
    with replacing_folder(Path("data/features") / name) as folder:
        if not read_json(weights / "backbone.json")["frozen"]:
            log.info("%s: nothing is frozen, so there are no features", name)
            write_json(folder / "features.json", {"engine": "none", "precision": "float32"})
            return
        params = load(EngineParams, "features")
        choice: Choice = choose(params, threads())
        log.info("%s: %s in %s on %d threads", name, choice.engine, choice.precision, choice.threads)
        if choice.engine == "tensorflow":
            from stages.networks.keras_engine import repeatable

            repeatable(0, choice.threads)
        write(folder, weights, choice, params.batch_size)


if __name__ == "__main__":
    run(main)
