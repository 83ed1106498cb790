"""Stage `views@B`: draw augmented views of the images that train, and run the frozen part of a backbone over them.

Writes `data/views/B/`: `train.npy` and `validation.npy`, float32 (images x views, width), with the views of an image
behind each other and the images as in `data/prepared/index.csv` (see stages/core/dataset/augmented.py), with folds
`test.npy` as well, for each image trains in some fold's run; `views.json`, how many views of each image there are; and
`preview.png`, the first training image of each class with its views beside it.

Features of views are for dense heads, which are trained for candidates alone: where nothing would use them there are
none. Where a part of the backbone is trained, stage `unfreeze` draws the same views.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.dataset.augmentation import Augmentation
from stages.core.errors import run
from stages.core.files import read_json, replacing_folder, write_json
from stages.core.params import load, load_part, named_backbone, seed, threads
from stages.core.selection import is_fine_tuned
from stages.core.settings.backbones import Backbone, read_head
from stages.core.settings.features import EngineParams
from stages.core.settings.preprocess import ViewParams
from stages.core.settings.tune import SearchParams
from stages.networks.engine import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from stages.core.dataset.prepared import Lazy
    from stages.networks.extraction import Forward

RECIPES = Path("data/recipes")
PREPARED = Path("data/prepared")
WEIGHTS = Path("data/weights")
VIEWS = Path("data/views")
# Images of the preview are reduced until they are hardly larger: there is one for each class and view. Pixels.
_PREVIEWED = 96

log = logging.getLogger(__name__)


def reason_against(backbone: Backbone, views: int, trials: int) -> str | None:
    """Return why no views are wanted; None where some are. `trials` is how many heads are searched."""
    if views == 0:
        return "preprocess.views is 0"
    if not backbone.head.units and trials == 0:
        return "its head has no dense layer, and none is searched"
    if not is_fine_tuned(backbone.name):
        return "it is not fine-tuned"
    return None if read_json(WEIGHTS / backbone.name / "backbone.json")["frozen"] else "nothing is frozen"


def compute(backbone: Backbone, params: ViewParams, folder: Path) -> None:
    """Write the features of the views, and the preview, into `folder`."""
    from stages.core.dataset.augmented import AugmentedRows
    from stages.core.dataset.prepared import SPLITS, Rows, array_path, count_folds, read_index, selected
    from stages.networks.extraction import write_features

    engine, index = load(EngineParams, "features"), read_index(PREPARED)
    network = _network(WEIGHTS / backbone.name, engine)
    width = read_json(WEIGHTS / backbone.name / "backbone.json")["width"]
    for split in SPLITS if count_folds(index) else SPLITS[:2]:
        chosen = selected(index, split)
        images = Rows(chosen, {split: array_path(PREPARED, backbone.input_size, split)})
        views = AugmentedRows(images, chosen["file"].tolist(), params.views, Augmentation(params.augmentation, seed()))
        drawn = _batches(views, engine.batch_size, f"views {split}")
        write_features(folder / f"{split}.npy", network, drawn, (len(views), width))
        if split == "train":
            preview(images, views, chosen["label"].tolist()).save(folder / "preview.png")


def _network(weights: Path, params: EngineParams) -> "Forward":
    from stages.networks.extraction import forward

    choice = choose(params, threads())
    log.info("%s: %s in %s on %d threads", weights.name, choice.engine, choice.precision, choice.threads)
    if choice.engine == "tensorflow":
        from stages.networks.keras_engine import repeatable

        repeatable(0, choice.threads)
    return forward(weights, choice, ("features",))


def _batches(views: "Lazy", size: int, what: str) -> "Iterator[NDArray[Any]]":
    """Yield the views, `size` at a time; the next ones are drawn while the network is at work."""
    from stages.core.parallel import in_threads

    return in_threads(lambda start: views[start : start + size], range(0, len(views), size), what, workers=1)


def preview(images: "Lazy", views: "Lazy", labels: list[str]) -> "Image.Image":
    """Return a grid: a row for each class with its first image, and its views beside it.

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
    backbone = read_head(RECIPES, named_backbone())
    params = load_part(ViewParams, "preprocess")
    trials = load_part(SearchParams, "tune").trials
    against = reason_against(backbone, params.views, trials)
    with replacing_folder(VIEWS / backbone.name) as folder:
        if against is None:
            compute(backbone, params, folder)
        else:
            log.info("%s: no views: %s", backbone.name, against)
        write_json(folder / "views.json", {"views": 0 if against else params.views})


if __name__ == "__main__":
    run(main)
