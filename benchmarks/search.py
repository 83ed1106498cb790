"""The search for a better head beside as many trainings by the plain Keras script, in one run.

    python benchmarks/search.py [--count 240] [--trials 50] [--backbones mobilenet_v3_small ...]

Works in a clone of what is committed here, with 5 * `--count` newly drawn images, at 224 pixels, each training image
with four augmented views. Of the script one epoch is timed and multiplied by its fifteen and by the number of trials.
Prints Markdown: the features, which the search needs once, are told apart. Half an hour on two cores.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.pipeline import EPOCHS, SIDE, VIEWS, Project
from stages.core.files import read_json
from stages.networks.processor import processor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The search for a better head beside the plain Keras script.")
    parser.add_argument("--count", type=int, default=240, help="images of each of the five classes")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v3_small"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder) / "clone", options.count, "auto")
        project.change(tune={"trials": options.trials}, backbones={name: {} for name in options.backbones})
        project.repro("split")
        counts = project.divide()
        print(f"{processor()}: {sum(counts.values())} images, {SIDE} pixels, {VIEWS} views and the image itself\n")
        print("| backbone | script, an epoch, s | these trainings, s | search, s | ratio | features, s | validation |")
        print("|:--|--:|--:|--:|--:|--:|:--|")
        for name in options.backbones:
            project.change(backbones={name: {}})
            took = project.repro("tune")
            epoch = project.script(name, 1)["epochs"][0]
            plain, search = epoch * EPOCHS * options.trials, took["tune"]
            found = read_json(project.folder / f"data/tuning/{name}/search.json")
            gained = (
                f"{found['measure']} {found['default_measure']:.4f} by default, {found['chosen_measure']:.4f} chosen"
            )
            print(
                f"| {name} | {epoch:.1f} | {plain:.0f} | {search:.1f} | {plain / search:.0f} "
                f"| {took[f'features@{name}']:.1f} | {gained} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
