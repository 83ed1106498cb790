"""How the stages grow with the number of images: time and peak memory of each stage's process.

    python benchmarks/growth.py [--counts 500 5000 50000] [--stages ingest split preprocess] [--folder DIR]

Small images, one small backbone: what grows here is their number. Prints one table, measured in one run on
one machine; and, for the smallest number of images, ingest on one core beside ingest on all.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.core.params import merge, read  # noqa: E402 (the project is on the path now)

CLASSES = 5
BACKBONE = "mobilenet_v3_small"
PARAMS = {
    "data": {"source": "images"},
    "preprocess": {"sizes": [32], "views": 1},
    "weights": {"source": "random"},
    "finetune": {"head": {"units": [16]}, "epochs": 2, "unfreeze": {"blocks": 1, "epochs": 2}},
}
# In the order of the graph; those of a backbone take its name.
STAGES = (
    "check", "ingest", "split", "preprocess", "weights", "features", "probe", "rank", "candidates", "audit",
    "views", "tune", "finetune", "evaluate", "explain", "benchmark", "compare",
)  # fmt: skip
OF_A_BACKBONE = ("weights", "features", "probe", "views", "finetune", "explain", "benchmark")


def photograph(number: int, side: int) -> "Image.Image":
    """Return an image with the spectrum of photographs; like no other of another number."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(number)
    image = np.full((side, side, 3), 128.0)
    for octave in range(2, 6):
        noise = Image.fromarray(random.integers(0, 256, (2**octave, 2**octave, 3), dtype=np.uint8))
        image += (np.asarray(noise.resize((side, side)), dtype=float) - 128) * 2 / 2**octave
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def draw(number: int, folder: Path, side: int) -> None:
    """Write one photograph as a JPEG into the folder of its class."""
    photograph(number, side).save(folder / f"class_{number % CLASSES}" / f"{number:06}.jpg", quality=85)


def lay_out(folder: Path, count: int, side: int) -> None:
    """Write `count` images of `side` pixels, and params.yaml, into a project of their own."""
    for number in range(CLASSES):
        (folder / "images" / f"class_{number}").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(draw, folder=folder / "images", side=side), range(count), chunksize=256))
    params = merge(read(ROOT / "params.yaml"), PARAMS) | {"backbones": {BACKBONE: {}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def run(stage: str, folder: Path, *, one_core: bool = False) -> tuple[float, float]:
    """Run a stage in `folder`, on all cores or on one; return its seconds and its peak memory in MB."""
    chosen = ["taskset", "--cpu-list", "0"] if one_core else []
    backbone = [BACKBONE] if stage in OF_A_BACKBONE else []
    return measure([*chosen, sys.executable, "-m", f"stages.{stage}", *backbone], folder)


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command in `folder`; return its seconds and its peak memory in MB."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    begin = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        sys.exit(f"{' '.join(command)} failed: {(folder / 'log').read_text(encoding='utf-8')}")
    return seconds, usage.ru_maxrss * 1024 / 1e6


def rows(place: Path, counts: list[int], stages: list[str], side: int) -> Iterator[tuple[int, str, float, float]]:
    """Yield number of images, stage, seconds and MB, as they are measured."""
    for count in counts:
        with tempfile.TemporaryDirectory(dir=place) as name:
            folder = Path(name)
            lay_out(folder, count, side)
            for stage in stages:
                yield count, stage, *run(stage, folder)
            if count == min(counts):
                yield count, "ingest, one core", *run("ingest", folder, one_core=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 5_000, 50_000])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--side", type=int, default=64, help="of each image, pixels")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is room")
    options = parser.parse_args()
    print(f"{'images':>9}  {'stage':<17} {'seconds':>8} {'images/s':>11} {'peak, MB':>9}")
    for count, stage, seconds, memory in rows(options.folder, options.counts, options.stages, options.side):
        print(f"{count:>9}  {stage:<17} {seconds:>8.1f} {count / seconds:>11.0f} {memory:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
