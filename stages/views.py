"""Stage `views@B`: draw augmented views of the training images, and run the frozen network of a backbone on them.

Writes `data/views/B/`: `train.npy` and `validation.npy`, float32 (images x views, width), the views of each image in
sequence and the images as in `data/prepared/index.csv` (see stages/core/dataset/augmented.py); with folds also
`test.npy`, since each image trains in some fold's run; `views.json`, the number of views per image; and `preview.png`,
the first training image of each class with its views.

Only dense heads use these features, and only candidates have dense heads: other backbones have no views. Stage
`unfreeze` draws the same views itself.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.dataset.augmentation import Augmentation
from stages.core.errors import run
from stages.core.files import read_json, replacing_folder, write_json
from stages.core.params import named_backbone
from stages.core.selection import is_fine_tuned
from stages.core.settings.recipes import ViewsRecipe, read_recipe
from stages.networks.engine import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from stages.core.dataset.prepared import Lazy
    from stages.networks.extraction import Forward

PREPARED = Path("data/prepared")
WEIGHTS = Path("data/weights")
VIEWS = Path("data/views")
# Images of the preview are reduced to about this side, pixels: there is one for each class and view.
_PREVIEWED = 96

log = logging.getLogger(__name__)


def reason_against(name: str, recipe: ViewsRecipe) -> str | None:
    """Return the reason to draw no views for a backbone, or None."""
    if recipe.views == 0:
        return "preprocess.views is 0, or no dense head takes them"
    if not is_fine_tuned(name):
        return "it is not among the candidates"
    return None if read_json(WEIGHTS / name / "backbone.json")["frozen"] else "nothing is frozen"


def compute(name: str, recipe: ViewsRecipe, folder: Path) -> None:
    """Write the features of the views, and the preview, to `folder`."""
    from stages.core.dataset.augmented import AugmentedRows
    from stages.core.dataset.prepared import SPLITS, Rows, array_path, count_folds, read_index, selected
    from stages.networks.extraction import write_features

    index = read_index(PREPARED)
    augmentation = Augmentation(recipe.augmentation, recipe.seed)
    facts = read_json(WEIGHTS / name / "backbone.json")
    network = _network(WEIGHTS / name, recipe, facts["builder"])
    splits = SPLITS if count_folds(index) else SPLITS[:2]
    log.info(
        "%s: %d views of each of %d images", name, recipe.views, sum(len(selected(index, split)) for split in splits)
    )
    for split in splits:
        chosen = selected(index, split)
        images = Rows(chosen, {split: array_path(PREPARED, facts["input_size"], split)})
        views = AugmentedRows(images, chosen["file"].tolist(), recipe.views, augmentation)
        batches = _batches(views, recipe.features.batch_size, f"views {split}")
        write_features(folder / f"{split}.npy", network, batches, (len(views), facts["width"]))
        if split == "train":
            preview(images, views, chosen["label"].tolist()).save(folder / "preview.png")


def _network(weights: Path, recipe: ViewsRecipe, builder: str) -> "Forward":
    from stages.networks.extraction import forward

    choice = choose(recipe.features, recipe.threads, builder)
    log.info("%s: %s in %s on %d threads", weights.name, choice.engine, choice.precision, choice.threads)
    if choice.engine == "tensorflow":
        from stages.networks.keras_engine import make_deterministic

        make_deterministic(0, choice.threads)
    return forward(weights, choice, ("features",))


def _batches(views: "Lazy", size: int, what: str) -> "Iterator[NDArray[Any]]":
    """Yield the views, `size` at a time; the next ones are drawn while the network is busy."""
    from stages.core.parallel import in_threads

    return in_threads(lambda start: views[start : start + size], range(0, len(views), size), what, workers=1)


def preview(images: "Lazy", views: "Lazy", labels: list[str]) -> "Image.Image":
    """Return a grid with a row for each class: its first image and the views of it.

    `labels` are those of `images`, `views` the same number of each image.
    """
    import numpy as np
    from PIL import Image

    each, rows = len(views) // len(images), []
    first = {label: position for position, label in reversed([*enumerate(labels)])}
    for _, position in sorted(first.items()):
        shown = [*images[position : position + 1], *views[position * each : (position + 1) * each]]
        row = Image.fromarray(np.concatenate(shown, axis=1))
        rows.append(np.asarray(row.reduce(max(1, row.height // _PREVIEWED))))
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    """Write `data/views/B/` for the backbone named on the command line."""
    name = named_backbone()
    recipe = read_recipe(ViewsRecipe, name)
    against = reason_against(name, recipe)
    with replacing_folder(VIEWS / name) as folder:
        if against is None:
            compute(name, recipe, folder)
        else:
            log.info("%s: no views: %s", name, against)
        write_json(folder / "views.json", {"views": 0 if against else recipe.views})


if __name__ == "__main__":
    run(main)
