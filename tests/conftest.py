"""What holds for all tests, and backbones, images and features that several rooms' tests are made with."""

import gc
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

# Before any test imports OpenVINO: without this package's rules it tells its maker of each use.
import stages.networks  # noqa: F401
from stages.core.files import write_json
from stages.core.params import read
from stages.core.settings.backbones import Backbone, resolve
from stages.training.inputs import TrainingData
from tests.support.features import CLASSES, ROOT, WIDTH

# Folders of tests that take longest, the longest first.
LONGEST = ("whole", "flows", "stages", "predict", "networks", "training")


def pytest_configure() -> None:
    """Let Ctrl-C, and the end of a terminal, reach the processes that tests start.

    What a shell starts in the background ignores the one, what `nohup` starts the other, and so does all that this
    starts in turn: a test that sends it to a process would wait without end, or find that it goes on.
    """
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    # Until all is imported and collected nothing of it is garbage.
    gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage among what tests make alone: looking through all libraries each time costs more than tests."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, lest at the end one of several workers is left alone with it."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    folder = item.path.relative_to(ROOT / "tests").parts[0]
    return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Restore what signals do: a flow or a program that a test runs in this process decides on it for the rest."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def declare() -> Callable[..., Backbone]:
    """Return a function that resolves one line of `backbones` over the shipped parameters."""

    def resolved(key: str, sizes: tuple[int, ...] = (32, 64, 96), **line: Any) -> Backbone:
        params = read(ROOT / "params.yaml")
        prepared = params["preprocess"] | {"sizes": list(sizes)}
        return resolve(key, params | {"preprocess": prepared, "backbones": {key: line}})

    return resolved


@pytest.fixture(scope="session")
def random_images() -> Callable[..., NDArray[np.uint8]]:
    """Return a function that makes smooth random images, (n, side, side, 3), 0 to 255."""

    def made(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
        coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
        repeat = -(-side // 4)
        return coarse.repeat(repeat, axis=1).repeat(repeat, axis=2)[:, :side, :side]

    return made


@pytest.fixture
def inputs_of(declare: Callable[..., Backbone], tmp_path: Path) -> Callable[..., TrainingData]:
    """Return a function from a line of `backbones` to inputs with features of images and of a view of each."""
    counts = {"train": 40, "validation": 20, "test": 12}
    index = _write_features(tmp_path, counts)

    def made(seed: int = 3, views: int = 0, **line: Any) -> TrainingData:
        backbone = declare("vgg16", **({"head": {"units": [8]}, "epochs": 4, "batch_size": 16} | line))
        folders = (tmp_path / "features", tmp_path / "prepared")
        folder = tmp_path / "views"
        return TrainingData(backbone, *folders, index, list(CLASSES), seed, views=views, view_features=folder)

    return made


def _write_features(root: Path, counts: Mapping[str, int]) -> pd.DataFrame:
    """Write features of this many images of each split, and of a view of each; return the index of the images."""
    draw, rows = np.random.default_rng(0), []
    (root / "features").mkdir()
    (root / "views").mkdir()
    for split, count in counts.items():
        numbers = np.arange(count) % len(CLASSES)
        for folder in ("features", "views"):
            found = draw.normal(5, 2, (count, WIDTH)) + numbers[:, None]
            np.save(root / f"{folder}/{split}.npy", found.astype(np.float32))
        rows += [(split, row, f"{split}{row}.png", CLASSES[number], -1) for row, number in enumerate(numbers)]
    write_json(root / "views/views.json", {"views": 1})
    return pd.DataFrame(rows, columns=["split", "row", "file", "label", "fold"])
