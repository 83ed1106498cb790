"""How long stage compare takes, and how large its page is: nine backbones on made-up predictions for photographs.

    python benchmarks/report.py [--images 1200] [--classes 5] [--side 1024] [--folder DIR]

A quarter of the images are the test split by default; only these are drawn, since compare looks at no other.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.growth import measure, photograph  # noqa: E402
from stages.core import files  # noqa: E402 (the project is on the path now)
from tests.support import artefacts  # noqa: E402 (the project is on the path now)


def lay_out(folder: Path, images: int, classes: tuple[str, ...], side: int) -> None:
    """Write what the stages before evaluate and compare make."""
    each = images // 4 // len(classes)
    artefacts.write_params(folder, list(artefacts.NINE))
    artefacts.write_data(folder, classes, {}, each)
    for seed, (name, (right, latency, parameters, weights)) in enumerate(artefacts.NINE.items()):
        table = artefacts.predictions(classes, right, seed, each)
        artefacts.write_model(folder, name, classes, table, weights)
        files.write_json(folder / f"data/benchmarks/{name}.json", artefacts.benchmark(latency, parameters))
    raw = sorted(path for path in (folder / "data/raw").rglob("*") if path.is_file())
    with ProcessPoolExecutor() as pool:
        list(pool.map(draw, range(len(raw)), raw, repeat(side)))


def draw(number: int, path: Path, side: int) -> None:
    """Write a photograph, whatever the file is called: images are read by content."""
    photograph(number, side).save(path, "JPEG", quality=85)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--side", type=int, default=1024, help="of each image, pixels")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is room")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        lay_out(folder, options.images, tuple(f"class {n}" for n in range(options.classes)), options.side)
        measure([sys.executable, "-m", "stages.evaluate"], folder)
        seconds, memory = measure([sys.executable, "-m", "stages.compare"], folder)
        size = (folder / "data/report/comparison.html").stat().st_size / 1e6
    found = f"{seconds:.1f} s, {memory:.0f} MB, a page of {size:.2f} MB"
    print(f"{options.images} images of {options.classes} classes: {found}")


if __name__ == "__main__":
    main()
