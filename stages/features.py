"""Stage `features@B`: run the frozen network of a backbone on every prepared image, once.

Writes `data/features/B/`: for each split `SPLIT.npy`, float32 (rows, width), rows as in `data/prepared/index.csv`, and
`features.json`, which records how they were computed, of which `network` (its properties, from stage weights), and
whether its preprocessing suits its weights (`inputs`, see stages/networks/expectation.py). A network that is trained
from scratch, such as `scratch`, has no features.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.dataset.prepared import SPLITS, array_path, batches, count_rows
from stages.core.errors import run
from stages.core.files import read_json, replacing_folder, write_json
from stages.core.params import named_backbone
from stages.core.settings.recipes import FeaturesRecipe, read_recipe
from stages.networks.engine import Choice, choose
from stages.networks.expectation import checked, unchecked
from stages.networks.extraction import forward, write_features

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")


def write(folder: Path, weights: Path, choice: Choice, batch_size: int) -> None:
    """Write the features of every prepared image by the network in `weights` to `folder`."""
    facts, network = read_json(weights / "backbone.json"), forward(weights, choice, ("features",))
    for split in SPLITS:
        images = array_path(PREPARED, facts["input_size"], split)
        shape = (count_rows(images), facts["width"])
        write_features(folder / f"{split}.npy", network, batches(images, batch_size), shape)
    write_json(folder / "features.json", vars(choice) | {"network": facts, "inputs": _inputs(weights, facts, choice)})


def _inputs(weights: Path, facts: dict[str, Any], choice: Choice) -> dict[str, Any]:
    """Return whether training images reach the network as its weights expect them, where that can be known."""
    if facts["normalization"] is None:
        return unchecked(facts)
    network = forward(weights, choice, (facts["normalization"]["output"],))
    return checked(network, facts, np.load(array_path(PREPARED, facts["input_size"], "train"), mmap_mode="r"))


def main() -> None:
    """Write `data/features/B/` for the backbone named on the command line."""
    name = named_backbone()
    weights = Path("data/weights") / name
    with replacing_folder(Path("data/features") / name) as folder:
        facts = read_json(weights / "backbone.json")
        if not facts["frozen"]:
            log.info("%s: nothing is frozen, so there are no features", name)
            described = {"network": facts, "inputs": unchecked(facts)}
            write_json(folder / "features.json", {"engine": "none", "precision": "float32"} | described)
            return
        recipe = read_recipe(FeaturesRecipe, name)
        choice: Choice = choose(recipe.features, recipe.threads, facts["builder"])
        images = sum(count_rows(array_path(PREPARED, facts["input_size"], split)) for split in SPLITS)
        log.info("%s: %d images, %s in %s on %d threads", name, images, choice.engine, choice.precision, choice.threads)
        if choice.engine == "tensorflow":
            from stages.networks.keras_engine import make_deterministic

            make_deterministic(0, choice.threads)
        write(folder, weights, choice, recipe.features.batch_size)


if __name__ == "__main__":
    run(main)
