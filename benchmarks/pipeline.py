"""The pipeline beside the plain Keras script of the course: the same images, size, heads and processor, in one run.

    python benchmarks/pipeline.py [--count 150] [--parts frozen reruns unfrozen] [--backbones vgg16 resnet50 ...]

Works in a clone of what is committed here, with newly drawn images: 5 * `--count`, at 224 pixels, each
training image with four augmented views for the pipeline and fifteen epochs for the script. Of the script
one epoch is timed and multiplied by fifteen, its set-up counted once; `--whole` names the backbones whose
fifteen epochs are really trained, for the accuracy. Prints Markdown. Takes an hour on two cores.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.core.files import read_csv, read_json  # noqa: E402 (the project is on the path now)
from stages.core.params import merge, read  # noqa: E402 (the project is on the path now)
from stages.networks.engine import faster_in_bfloat16  # noqa: E402 (the project is on the path now)
from stages.networks.processor import processor  # noqa: E402 (the project is on the path now)

SIDE, VIEWS, EPOCHS = 224, 4, 15
PRETRAINED = [name for name in read(ROOT / "params.yaml")["backbones"] if name != "scratch"]
# The second needs the first.
PARTS = ("frozen", "reruns", "unfrozen")
# Stages that do what the script does; it searches, explains, ranks and measures nothing.
_OF_SCRIPT = ("weights", "features", "views", "finetune")
UNFROZEN = ("vgg16", "resnet50_v2", "convnext_tiny")
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


class Project:
    """A clone with parameters of its own, in which DVC runs as it does for a user."""

    def __init__(self, folder: Path, count: int, precision: str) -> None:
        self.folder = folder
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        drawing = [sys.executable, str(ROOT / "data/samples/draw_yoga_figures.py"), "--count", str(count)]
        subprocess.run([*drawing, "--output", str(folder / "figures")], check=True)
        self.change(
            data={"source": "figures"},
            preprocess={"sizes": [SIDE], "views": VIEWS},
            features={"precision": precision},
            # The script trains the course's head, once, on frozen features, and saves in Keras's form alone.
            finetune={"head": {"units": [512]}, "repeats": 1, "training_shares": [], "unfreeze": {"blocks": 0}},
            rank={"candidates": "all"},
            export={"formats": ["keras"]},
            backbones={},
        )

    def change(self, **sections: Any) -> None:
        """Lay `sections` over the clone's params.yaml; `backbones` are replaced as a whole."""
        path = self.folder / "params.yaml"
        params = merge(yaml.safe_load(path.read_text(encoding="utf-8")), sections)
        params["backbones"] = sections.get("backbones", params["backbones"])
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def repro(self, *targets: str) -> dict[str, float]:
        """Run `dvc repro`; return the seconds of each stage that ran, DVC's own work for it included, and of all."""
        begin = time.perf_counter()
        seconds: dict[str, float] = {}
        for at, line in self.lines([sys.executable, "-m", "dvc", "repro", *targets]):
            if found := re.match(r"Running stage '(.*)':", line):
                seconds[found[1]] = at
        starts = [*seconds.values(), (end := time.perf_counter() - begin)]
        return {name: after - at for (name, at), after in zip(seconds.items(), starts[1:], strict=True)} | {"all": end}

    def lines(self, command: list[str]) -> Iterator[tuple[float, str]]:
        """Run a command in the clone; yield its lines with the seconds since its start."""
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=self.folder, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        last: list[str] = []
        for line in process.stdout:
            last = [*last, line][-20:]
            yield time.perf_counter() - begin, line
        if process.wait():
            sys.exit(f"{' '.join(command)} failed:\n{''.join(last)}")

    def script(self, backbone: str, epochs: int, unfreeze: int = 0) -> dict[str, Any]:
        """Run the plain script with the weights and the split of the pipeline; return what it measured."""
        weights = self.folder / f"data/weights/{backbone}/backbone.keras"
        command = [sys.executable, str(ROOT / "benchmarks/plain_keras.py"), backbone, "--weights", str(weights)]
        options = ["--images", "divided", "--epochs", str(epochs), "--unfreeze", str(unfreeze)]
        environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            [*command, *options], cwd=self.folder, env=environment, text=True, capture_output=True, check=False
        )
        if done.returncode:
            sys.exit(f"plain_keras.py {backbone} failed:\n{done.stderr[-2000:]}")
        measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return measured

    def divide(self) -> dict[str, int]:
        """Lay the images out by the pipeline's split, as the script reads them; return how many in each part."""
        table = read_csv(self.folder / "data/splits.csv", text=("file", "label", "group", "split"))
        for row in table.itertuples():
            place = self.folder / "divided" / row.split / row.file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / "data/raw" / row.file, place)
        return {str(split): int(count) for split, count in table["split"].value_counts().items()}

    def bare(self, backbone: str) -> float:
        """Return the seconds of the engine's forward passes over as many images as the features stage has."""
        command = [sys.executable, "-c", _BARE, str(ROOT), backbone]
        done = subprocess.run(command, cwd=self.folder, env=ENVIRONMENT, text=True, capture_output=True, check=True)
        return float(done.stdout)


# In a process of its own, with the threads and the precision of the stage; from memory, nothing is written.
_BARE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from stages.core.files import read_json
from stages.core.dataset.prepared import SPLITS, array_path, batches, read_rows
from stages.networks.engine import Choice
from stages.networks.extraction import forward
views = read_json(Path("data/views") / sys.argv[2] / "views.json")["views"]
facts = read_json(Path("data/features") / sys.argv[2] / "features.json")
choice = Choice(*(facts[k] for k in ("engine", "precision", "threads")))
network = forward(Path("data/weights") / sys.argv[2], choice, ("features",))
files = [array_path(Path("data/prepared"), 224, split) for split in SPLITS]
network(read_rows(files[0], 0, 32))
total = 0.0
for file in files:
    # The images of the first two once for each view, too.
    for _ in range(1 if file == files[-1] else 1 + views):
        for batch in batches(file, 32):
            begin = time.perf_counter()
            network(batch)
            total += time.perf_counter() - begin
print(total)
"""


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Give a table that fills with the peak memory, MB, of each stage's process while the block runs."""
    peaks: dict[str, float] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    words = (process / "cmdline").read_bytes().decode().split("\0")
                    status = (process / "status").read_text(encoding="utf-8")
                except OSError:
                    continue
                peak = re.search(r"VmHWM:\s+(\d+)", status)
                if peak and words[1:2] == ["-m"] and words[2].startswith("stages."):
                    name = "@".join(word for word in words[2:] if word).removeprefix("stages.")
                    peaks[name] = max(peaks.get(name, 0.0), int(peak[1]) * 1024 / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def frozen_phase(project: Project, backbones: list[str], whole: list[str]) -> dict[str, float]:
    """Print the pipeline beside the script, backbone by backbone; return the seconds of the cold run's stages."""
    project.change(backbones=_lines(backbones))
    with watched() as peaks:
        cold = project.repro()
    counts = project.divide()
    parts = ", ".join(f"{count} {part}" for part, count in counts.items())
    print(f"\n{sum(counts.values())} images ({parts}), {SIDE} pixels, {VIEWS} views and the image itself\n")
    print(
        f"| backbone | script, {EPOCHS} epochs, s | pipeline, s | ratio | of which what the script does, s | ratio ",
        end="",
    )
    print("| of which features, s | bare passes, s | accuracy of the script | of the pipeline | its interval |")
    print("|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|:--|")
    metrics = read_json(project.folder / "data/metrics.json")
    sums = dict.fromkeys(("script", "pipeline", "same", "features", "bare"), 0.0)
    for name in backbones:
        measured = project.script(name, EPOCHS if name in whole else 1)
        accuracy = f"{measured['accuracy']:.1%}" if name in whole else "-"
        own = {stage: seconds for stage, seconds in cold.items() if stage.endswith(f"@{name}")}
        took = {
            "script": measured["setup"] + sum(measured["epochs"]) / len(measured["epochs"]) * EPOCHS,
            "pipeline": sum(own.values()),
            "same": sum(own[f"{stage}@{name}"] for stage in _OF_SCRIPT),
            "features": own[f"features@{name}"] + own[f"views@{name}"],
            "bare": project.bare(name),
        }
        sums = {key: sums[key] + value for key, value in took.items()}
        found = metrics[name]
        interval = f"{found['accuracy_low']:.1%} to {found['accuracy_high']:.1%}"
        print(f"| {name} | {_row(took)} | {accuracy} | {found['accuracy']:.1%} | {interval} |", flush=True)
    shared = sum(seconds for stage, seconds in cold.items() if "@" not in stage and stage != "all")
    sums["pipeline"] += shared
    print(f"| all, with what they share ({shared:.0f} s) | {_row(sums)} | | | |")
    print(f"\nwhat the script does: {', '.join(_OF_SCRIPT)}")
    print(f"\nfeatures and views stages in sum / bare forward passes: {sums['features'] / sums['bare']:.2f}")
    kinds: dict[str, float] = {}
    for stage, peak in peaks.items():
        kinds[stage.split("@")[0]] = max(peak, kinds.get(stage.split("@")[0], 0.0))
    print("\npeak memory, MB:", ", ".join(f"{kind} {peak:.0f}" for kind, peak in kinds.items()))
    return cold


def _lines(backbones: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the shipped lines of `backbones`, without sizes of their own."""
    shipped = read(ROOT / "params.yaml")["backbones"]
    return {
        name: {key: value for key, value in (shipped[name] or {}).items() if key != "input_size"} for name in backbones
    }


def _row(took: dict[str, float]) -> str:
    whole, same = (f"{took[part]:.0f} | {took['script'] / took[part]:.1f}" for part in ("pipeline", "same"))
    return f"{took['script']:.0f} | {whole} | {same} | {took['features']:.0f} | {took['bare']:.0f}"


def reruns(project: Project, cold: float, backbones: list[str]) -> None:
    """Print what is done again after a change, beside the cold run."""
    print(f"\n| after the cold run ({cold:.0f} s) | s | share of it | stages that ran |\n|:--|--:|--:|--:|")
    # Each on top of those before it. The backbone comes last: what follows would run for it as well.
    changes: list[tuple[str, dict[str, Any]]] = [
        ("nothing changed", {}),
        ("one head parameter changed (finetune.head.l2)", {"finetune": {"head": {"l2": 0.0002}}}),
        ("one augmentation parameter changed (rotation)", {"preprocess": {"augmentation": {"rotation": 15}}}),
        ("one backbone added (densenet121)", {"backbones": _lines(backbones) | {"densenet121": {}}}),
    ]
    for what, change in changes:
        project.change(**change)
        took = project.repro()
        print(f"| {what} | {took['all']:.1f} | {took['all'] / cold:.3f} | {len(took) - 1} |", flush=True)


def second_phase(project: Project, blocks: int) -> None:
    """Print an epoch of phase 2 beside an epoch of the script that trains the same layers."""
    print(f"\n| phase 2, {blocks} block(s) unfrozen, s an epoch | script | pipeline | ratio |\n|:--|--:|--:|--:|")
    for name in UNFROZEN:
        # No augmented views here: an epoch of both sees each training image once.
        unfrozen = {"blocks": blocks, "epochs": 4, "learning_rate": 0.00001, "minutes": 1000}
        line = _lines([name])[name] | {"head": {"units": []}, "unfreeze": unfrozen}
        project.change(preprocess={"views": 0}, backbones={name: line})
        project.repro(f"features@{name}")
        project.divide()
        ends = [
            at
            for at, line in project.lines([sys.executable, "-m", "dvc", "repro", f"finetune@{name}"])
            if re.match(r"INFO finetune \d+/", line)
        ]
        # The first epoch traces the network.
        own = (ends[-1] - ends[0]) / (len(ends) - 1)
        script = project.script(name, 1, blocks)["epochs"][0]
        print(f"| {name} | {script:.1f} | {own:.2f} | {script / own:.1f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=150, help="images of each of the five classes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--backbones", nargs="+", default=PRETRAINED)
    parser.add_argument("--whole", nargs="*", default=["mobilenet_v3_small"], help="train all epochs of the script")
    parser.add_argument("--precision", default="auto", help="features.precision")
    parser.add_argument("--blocks", type=int, default=1, help="unfrozen in phase 2")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is room")
    options = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cores, precision {options.precision}, ", end="")
    print("where auto is bfloat16" if faster_in_bfloat16() else "where auto is float32")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        project = Project(Path(name) / "project", options.count, options.precision)
        if "frozen" in options.parts:
            cold = frozen_phase(project, options.backbones, options.whole)
            if "reruns" in options.parts:
                reruns(project, cold["all"], options.backbones)
        if "unfrozen" in options.parts:
            second_phase(project, options.blocks)


if __name__ == "__main__":
    main()
