"""How well every export of every declared backbone agrees with Keras, how large it is, and what it takes.

    python benchmarks/exports.py [--images 200] [--backbones resnet50 scratch] [--floor 0.995]

Backbones have random weights, and the linear head that is solved on generated images, stripes in five directions;
`scratch`, which has no frozen features, is trained as a whole. Exits with 1 where a form in float32
names another class than Keras on more than 1 - floor of as many other images. What int8 loses is told, and says
something of trained networks alone: features of random ones vary by less than a step of int8.

Prints a table in Markdown; takes some minutes, most of it ConvNeXt's.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.benchmark import peak_memory_mb  # noqa: E402
from stages.core import params  # noqa: E402 (the project is on the path now)
from stages.core.builders.families import SCRATCH  # noqa: E402 (the project is on the path now)
from stages.core.manifest import PATHS, checksums  # noqa: E402 (the project is on the path now)
from stages.core.settings.backbones import resolve  # noqa: E402 (the project is on the path now)
from stages.exports.agreement import agreement  # noqa: E402 (the project is on the path now)

CLASSES = ("0 degrees", "36 degrees", "72 degrees", "108 degrees", "144 degrees")
HEADER = (
    "| backbone | form | same class as Keras | largest difference | accuracy | size, MB | latency, ms | export, s "
    "| peak, MB |\n|:--|:--|--:|--:|--:|--:|--:|--:|--:|"
)
TRAINED, CALIBRATED, BATCH, EPOCHS, PASSES = 100, 50, 20, 30, 10
# Of the linear heads' penalty, scikit-learn's C: one that params.yaml tries.
STRENGTH = 10.0


def images(count: int, side: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return noisy stripes in two colours, (count, side, side, 3), and the number of their direction."""
    draw = np.random.default_rng(seed)
    across, down = np.meshgrid(np.arange(side) / side, np.arange(side) / side)
    found, actual = np.empty((count, side, side, 3), np.uint8), np.arange(count) % len(CLASSES)
    for image, number in zip(found, actual, strict=True):
        angle = np.pi * (number + draw.uniform(-0.2, 0.2)) / len(CLASSES)
        wave = np.sin(
            2 * np.pi * (draw.uniform(4, 8) * (across * np.cos(angle) + down * np.sin(angle)) + draw.random())
        )
        first, second = draw.uniform(40, 215, (2, 3))
        shares = 0.5 + 0.5 * wave[..., None]
        noisy = first * shares + second * (1 - shares) + draw.normal(0, 12, (side, side, 3))
        image[...] = np.clip(noisy, 0, 255)
    return found, actual


def classifier(backbone: Any, folder: Path) -> Any:
    """Return a network with random weights and a head at a temperature, as stage export joins them."""
    from stages.exports import exporting
    from stages.networks import keras_engine, pretrained

    keras_engine.repeatable(1, 2)
    network = pretrained.random(backbone.network)
    shown, actual = images(TRAINED, backbone.input_size, seed=1)
    fit = whole if backbone.builder == SCRATCH else linear_head
    return exporting.joined(network, None, fit(backbone, network, shown, actual, folder).tempered(1.5))


def linear_head(backbone: Any, network: Any, shown: NDArray[np.uint8], actual: NDArray[np.int64], folder: Path) -> Any:
    """Return the linear head of the frozen network, as stage probe solves it."""
    from stages.heads import linear

    batches = (shown[n : n + BATCH].astype(np.float32) for n in range(0, TRAINED, BATCH))
    features = np.concatenate([np.asarray(network(batch, training=False)) for batch in batches])
    return linear.fit(features, actual, len(CLASSES), backbone.class_weight, STRENGTH, folder)


def whole(backbone: Any, network: Any, shown: NDArray[np.uint8], actual: NDArray[np.int64], _: Path) -> Any:
    """Train the network together with a head, which is returned."""
    import keras

    from stages.networks import keras_heads

    built = keras_heads.build(backbone.head, network.output.shape[-1], len(CLASSES))
    # A network around the same layers keeps the optimiser's state out of what is exported.
    trained = keras.Model(network.input, built(network.output))
    trained.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy())
    trained.fit(shown.astype(np.float32), actual, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return keras_heads.arrays_of(built)


def measure(name: str, count: int, folder: Path) -> float:
    """Print a line for each form of a backbone; return the worst agreement of those in float32."""
    backbone = resolve(name, params.read(ROOT / "params.yaml") | {"weights": {"source": "random"}})
    model = classifier(backbone, folder)
    from stages.exports import exporting, runners

    shown, _ = images(CALIBRATED, backbone.input_size, seed=2)
    tested, actual = images(count, backbone.input_size, seed=3)
    subject = exporting.Classifier(model, CLASSES, lambda: iter(shown))
    expected, worst = None, 1.0
    for form in PATHS:
        forget_peak()
        begin = time.perf_counter()
        exporting.write(subject, form, folder)
        took, peak = time.perf_counter() - begin, peak_memory_mb()
        run = runners.runner(form, folder / PATHS[form], threads=2)
        found = np.concatenate([run(tested[n : n + BATCH]) for n in range(0, count, BATCH)])
        expected = found if expected is None else expected
        compared = agreement(expected, found, actual, 0.95)
        size = sum((folder / file).stat().st_size for file in checksums(folder, PATHS[form])) / 1e6
        print(
            f"| `{name}` | `{form}` | {compared['agreement']:.1%} | {compared['largest_difference']:.1g}"
            f" | {compared['accuracy']:.1%} | {size:.1f} | {latency(run, tested[:1]):.1f} | {took:.1f} | {peak:.0f} |",
            flush=True,
        )
        if form != "litert_int8":
            worst = min(worst, compared["agreement"])
    return worst


def forget_peak() -> None:
    """Let the peak memory of this process be what it holds now: `clear_refs` of proc_pid_clear_refs(5), Linux alone."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def latency(run: Any, image: NDArray[np.uint8]) -> float:
    """Return the median time of one image, ms."""
    taken = []
    for _ in range(PASSES):
        begin = time.perf_counter()
        run(image)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken)) * 1e3


def main() -> None:
    """Measure each backbone in a process of its own; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--backbones", nargs="+", default=params.declared_backbones(ROOT / "params.yaml"))
    parser.add_argument("--floor", type=float, default=0.995, help="least agreement in float32")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        with tempfile.TemporaryDirectory() as folder:
            worst = measure(options.backbones[0], options.images, Path(folder))
        sys.exit(int(worst < options.floor))
    print(HEADER, flush=True)
    shared = ["--alone", "--images", str(options.images), "--floor", str(options.floor), "--backbones"]
    ended = [
        subprocess.run([sys.executable, __file__, *shared, name], check=False, stderr=subprocess.DEVNULL).returncode
        for name in options.backbones
    ]
    failed = [name for name, code in zip(options.backbones, ended, strict=True) if code]
    if failed:
        sys.exit(f"below {options.floor:.1%} in float32, or not exported: {', '.join(failed)}")


if __name__ == "__main__":
    main()
