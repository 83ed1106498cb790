"""Stage views computes the features of augmented views where something is trained on them, and nothing elsewhere."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pandas as pd
import pytest
import yaml
from openvino import opset13 as operations
from PIL import Image

from stages import views
from stages.core import params as parameters
from stages.core.dataset.augmentation import Augmentation
from stages.core.errors import EngineError
from stages.core.files import read_json, write_csv, write_json
from stages.core.settings.preprocess import AugmentationParams
from stages.core.settings.recipes import write_recipes

ROOT = Path(__file__).parents[2]
SIDE, VIEWS, CLASSES = 48, 2, ("plank", "tree")
COUNTS = {"train": 5, "validation": 3, "test": 3}


def index(*, folds: bool) -> pd.DataFrame:
    """Return the index of images whose classes take turns, the last one first."""
    rows = [(split, row, f"{CLASSES[1 - row % 2]}/{row}{split}.png", CLASSES[1 - row % 2], row % 3 if folds else -1)
            for split, count in COUNTS.items() for row in range(count)]  # fmt: skip
    return pd.DataFrame(rows, columns=["split", "row", "file", "label", "fold"])


def network(folder: Path, scale: float = 1.0) -> None:
    """Write a frozen network whose features are the mean of each colour, times `scale`."""
    images = operations.parameter([-1, SIDE, SIDE, 3], openvino.Type.f32, name="images")
    means = operations.reduce_mean(images, operations.constant([1, 2], openvino.Type.i64))
    features = operations.multiply(means, operations.constant(scale, openvino.Type.f32))
    features.output(0).get_tensor().set_names({"features"})
    model = openvino.Model([operations.result(features)], [images], "frozen")
    openvino.save_model(model, str(folder / "frozen.xml"), compress_to_fp16=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A project in which views of backbone `net` are wanted; the function given changes keys of its parameters."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["views", "net"])
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["preprocess"] |= {"sizes": [SIDE], "views": VIEWS}
    params["features"] = {"engine": "openvino", "precision": "float32", "batch_size": 3}
    params["tune"]["trials"] = 0
    params["backbones"] = {"net": {"builder": "mobilenet_v3_small", "head": {"units": [8]}}}

    def change(**sections: Any) -> None:
        for key, values in sections.items():
            params[key] |= values
        Path("params.yaml").write_text(yaml.safe_dump(params))
        parameters.read.cache_clear()
        write_recipes(params)

    draw = np.random.default_rng(1)
    for split, count in COUNTS.items():
        Path(f"data/prepared/{SIDE}").mkdir(parents=True, exist_ok=True)
        np.save(f"data/prepared/{SIDE}/{split}.npy", draw.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))
    write_csv(Path("data/prepared/index.csv"), index(folds=False))
    write_json(Path("data/candidates/net.json"), {"finetune": True})
    write_json(
        Path("data/weights/net/backbone.json"), {"builder": "VGG16", "frozen": True, "width": 3, "input_size": SIDE}
    )
    network(Path("data/weights/net"))
    change()
    yield change
    parameters.read.cache_clear()


def drawn(split: str) -> np.ndarray:
    """Return the views of a split's images, (images, views, side, side, 3)."""
    params = parameters.load(AugmentationParams, "preprocess.augmentation")
    augmentation = Augmentation(params, parameters.seed())
    files, images = index(folds=False).query("split == @split")["file"], np.load(f"data/prepared/{SIDE}/{split}.npy")
    return np.array(
        [[augmentation.view(image, file, number + 1) for number in range(VIEWS)]
         for image, file in zip(images, files, strict=True)]
    )  # fmt: skip


def written() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("data/views/net").iterdir()}


@pytest.mark.usefixtures("project")
def test_the_features_of_an_images_views_stand_behind_each_other() -> None:
    views.main()
    found = np.load("data/views/net/train.npy")
    assert (found.shape, found.dtype) == ((COUNTS["train"] * VIEWS, 3), np.float32)
    np.testing.assert_allclose(found.reshape(-1, VIEWS, 3), drawn("train").mean(axis=(2, 3)), rtol=1e-5)
    assert read_json(Path("data/views/net/views.json")) == {"views": VIEWS}
    assert set(written()) == {"train.npy", "validation.npy", "views.json", "preview.png"}


@pytest.mark.usefixtures("project")
def test_with_folds_all_images_have_views_for_each_trains_in_some_run() -> None:
    views.main()
    before = written()
    write_csv(Path("data/prepared/index.csv"), index(folds=True))
    views.main()
    found = written()
    assert {name: found.pop(name) for name in before} == before
    assert set(found) == {"test.npy"}
    for split in ("validation", "test"):
        features = np.load(f"data/views/net/{split}.npy").reshape(-1, VIEWS, 3)
        np.testing.assert_allclose(features, drawn(split).mean(axis=(2, 3)), rtol=1e-5)


@pytest.mark.usefixtures("project")
def test_the_preview_shows_an_image_of_each_class_with_its_views() -> None:
    views.main()
    preview, images = np.asarray(Image.open("data/views/net/preview.png")), np.load(f"data/prepared/{SIDE}/train.npy")
    assert preview.shape == (2 * SIDE, 3 * SIDE, 3)
    for place, row in enumerate((1, 0)):
        expected = np.concatenate([images[row], *drawn("train")[row]], axis=1)
        assert np.array_equal(preview[place * SIDE : (place + 1) * SIDE], expected)


def test_large_images_are_reduced_in_the_preview() -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    assert views.preview(images, images, ["tree", "plank"]).size == (2 * 112, 2 * 112)


def test_batches_of_another_size_write_the_same(project: Callable[..., None]) -> None:
    views.main()
    before = written()
    project(features={"batch_size": 32})
    views.main()
    assert written() == before


def test_a_search_may_want_views_where_the_own_head_is_linear(project: Callable[..., None]) -> None:
    project(backbones={"net": {"builder": "mobilenet_v3_small", "head": {"units": []}}}, tune={"trials": 3})
    views.main()
    assert len(np.load("data/views/net/train.npy")) == COUNTS["train"] * VIEWS


LINEAR = {"backbones": {"net": {"builder": "mobilenet_v3_small", "head": {"units": []}}}}


@pytest.mark.parametrize(
    ("changes", "path", "facts", "reason"),
    [
        ({"preprocess": {"views": 0}}, None, {}, "preprocess.views is 0, or no dense head takes them"),
        (LINEAR, None, {}, "preprocess.views is 0, or no dense head takes them"),
        ({}, "data/candidates/net.json", {"finetune": False}, "it is not among the candidates"),
        ({}, "data/weights/net/backbone.json", {"frozen": False}, "nothing is frozen"),
    ],
)
def test_where_nothing_would_use_them_there_are_no_views(
    project: Callable[..., None], changes: dict, path: str | None, facts: dict, reason: str, caplog
) -> None:
    caplog.set_level("INFO")
    views.main()
    project(**changes)
    if path:
        write_json(Path(path), facts)
    caplog.clear()
    views.main()
    assert set(written()) == {"views.json"}
    assert read_json(Path("data/views/net/views.json")) == {"views": 0}
    assert caplog.messages == [f"net: no views: {reason}"]


def test_to_do_nothing_loads_neither_an_engine_nor_what_draws(project: Callable[..., None], tmp_path: Path) -> None:
    project(preprocess={"views": 0})
    code = "import sys; from stages import views; views.main(); print(*sys.modules)"
    command = [sys.executable, "-c", code, "net"]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}).stdout
    assert {"cv2", "keras", "openvino", "PIL", "stages.core.dataset.prepared"}.isdisjoint(loaded.split())


@pytest.mark.usefixtures("project")
def test_features_that_overflow_are_one_line_and_leave_nothing_behind() -> None:
    network(Path("data/weights/net"), scale=3e38)
    with pytest.raises(EngineError, match=r"features that are not finite; expected finite numbers"):
        views.main()
    assert not Path("data/views/net").exists()
