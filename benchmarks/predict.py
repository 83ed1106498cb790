"""How fast the command predicts a folder of images beside the engine alone, and how much memory that takes.

    python benchmarks/predict.py [--backbones resnet50] [--images 1000] [--threads N] [--repeats 3] [--floor 0.8]

Classifiers have random weights; the images are those of data/samples, each stretched by an amount of its own. The
engine alone computes the same images, decoded and in memory, in the same batches and precision, and is not asked to
load the network. Beside it stands what a loop would take that decodes each image in one process and then computes
all. The command is timed from its start to its end, and, from what more images take longer, behind its
start, which no number of images changes. Each time is the least of `--repeats`, taken in turn.

Prints a table in Markdown. Exits with 1 where the command as a whole reaches less than the floor.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.growth import measure  # noqa: E402
from stages.core import params  # noqa: E402 (the project is on the path now)
from stages.core.dataset.resizing import resize_to_square  # noqa: E402 (the project is on the path now)
from stages.core.manifest import PATHS, Form, Manifest, checksums, open_export, write_manifest  # noqa: E402 (the project is on the path now)
from stages.core.parallel import processors  # noqa: E402 (the project is on the path now)
from stages.core.settings.backbones import resolve  # noqa: E402 (the project is on the path now)

SAMPLES = sorted((ROOT / "data/samples/yoga_figures").rglob("*.jpg"))
CLASSES = ("downdog", "goddess", "plank", "tree", "warrior2")
HEADER = (
    "| backbone | engine alone, images/s | command, images/s | ratio | behind its start | ratio |"
    " command, of the time of decoding and engine | peak memory of {few} and {all} images, MB |\n"
    "|:--|--:|--:|--:|--:|--:|--:|--:|"
)


def draw(number: int, folder: Path) -> None:
    """Write one image."""
    with Image.open(SAMPLES[number % len(SAMPLES)]) as sample:
        stretched = sample.resize((sample.width + number // len(SAMPLES), sample.height))
    stretched.save(folder / f"{number:06}.jpg", quality=90)


def export(name: str, folder: Path) -> None:
    """Write an export whose network has random weights."""
    backbone = resolve(name, params.read(ROOT / "params.yaml") | {"weights": {"source": "random"}})
    from stages.core.head import Head, Layer
    from stages.exports import exporting
    from stages.networks import pretrained

    network = pretrained.random(backbone.network)
    width, classes = network.output.shape[-1], len(CLASSES)
    head = Head((Layer(np.ones((width, classes), np.float32), np.zeros(classes, np.float32)),))
    model = exporting.joined(network, None, head)
    exporting.write(exporting.Classifier(model, CLASSES, lambda: iter(())), "openvino", folder)
    form = Form(path=PATHS["openvino"], files=checksums(folder, PATHS["openvino"]))
    write_manifest(
        folder,
        Manifest(
            backbone=name, classes=CLASSES, input_size=backbone.input_size, fit="pad", temperature=1.0,
            weights={"source": "random"}, output="probabilities", formats={"openvino": form},
        ),
    )  # fmt: skip


def engine_alone(folder: Path, source: Path, threads: int) -> tuple[float, float]:
    """Return the seconds that decoding all images takes one by one, and the engine for all of them in memory."""
    from stages.exports.prediction import BATCH, outputs

    manifest, path = open_export(folder)
    begin = time.perf_counter()
    images = (Image.open(file).convert("RGB") for file in sorted(source.iterdir()))
    shown = np.stack([resize_to_square(image, manifest.input_size, manifest.fit) for image in images])
    decoding = time.perf_counter() - begin
    parts = [shown[start : start + BATCH] for start in range(0, len(shown), BATCH)]
    # The engine allocates at the first batch, which is no part of the measurement.
    batches = (((), part) for part in (parts[0], *parts))
    for number, _ in enumerate(outputs(path, threads, batches)):
        if number == 0:
            begin = time.perf_counter()
    return decoding, time.perf_counter() - begin


def row(name: str, place: Path, options: argparse.Namespace) -> tuple[str, float]:
    """Measure one backbone; return its line of the table, and the ratio of the command as a whole."""
    model = place / name
    own = [sys.executable, __file__, "--alone", str(model), "--threads", str(options.threads)]
    subprocess.run([*own, "--export", name], check=True, stderr=subprocess.DEVNULL)
    command = [sys.executable, "-m", "stages.predict", "--model", str(model), "--format", "csv",
               "--threads", str(options.threads), "--output", "found.csv"]  # fmt: skip
    decoding, alone, few, whole = [], [], [], []
    for _ in range(options.repeats):
        done = subprocess.run([*own, "--shown", str(place / "all")], check=True, capture_output=True, text=True)
        decoded, computed = map(float, done.stdout.split())
        decoding.append(decoded)
        alone.append(computed)
        few.append(measure([*command, "few"], place))
        whole.append(measure([*command, "all"], place))
    (small, small_memory), (large, large_memory) = min(few), min(whole)
    count, quarter = options.images, options.images // 4
    bare, fast, behind = count / min(alone), count / large, (count - quarter) / (large - small)
    cells = (f"{bare:.0f}", f"{fast:.0f}", f"{fast / bare:.2f}", f"{behind:.0f}", f"{behind / bare:.2f}",
             f"{large / (min(decoding) + min(alone)):.2f}", f"{small_memory:.0f}, {large_memory:.0f}")  # fmt: skip
    return f"| {name} | {' | '.join(cells)} |", fast / bare


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["resnet50"])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=processors(), help="of the engine")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--floor", type=float, default=0.8, help="least ratio of the command as a whole")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--export", help=argparse.SUPPRESS)
    parser.add_argument("--shown", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.export:
        export(options.export, options.alone)
        return
    if options.alone:
        print(*engine_alone(options.alone, options.shown, options.threads))
        return
    print(HEADER.format(few=options.images // 4, all=options.images), flush=True)
    reached = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shutil.copy(ROOT / "params.yaml", place)
        for folder, count in (("few", options.images // 4), ("all", options.images)):
            (place / folder).mkdir()
            with ProcessPoolExecutor() as pool:
                list(pool.map(partial(draw, folder=place / folder), range(count), chunksize=32))
        for backbone in options.backbones:
            line, ratio = row(backbone, place, options)
            print(line, flush=True)
            reached.append(ratio)
    if min(reached) < options.floor:
        sys.exit(f"below {options.floor:g} of the engine's throughput")


if __name__ == "__main__":
    main()
