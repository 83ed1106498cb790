"""Predict: run an exported classifier on any images.

    python -m stages.predict SOURCE... [--model data/exports/winner] [--format table|csv|json] [--output FILE]
                             [--rejects FILE] [--threads N] [--explain FOLDER] [--drift]

It is not a stage of dvc.yaml, since its images are not part of the comparison. A SOURCE is an image, a folder, an
archive or a URL of one of these. The limits of section `data` apply, and unusable images and sources are left out with
a reason; if there are no others the program exits with 1. Rows are ordered by path and written a batch at a time:
memory does not grow with the number of images. TensorFlow is loaded only for --explain.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from tqdm import tqdm

from stages.core.errors import DataError, UserError, one_line, run
from stages.core.files import replacing, replacing_folder
from stages.core.manifest import ExportError, Manifest, open_export, open_reference
from stages.core.parallel import Guard, in_processes
from stages.core.params import load, threads
from stages.core.settings.data import DataParams
from stages.exports.prediction import BATCH, outputs
from stages.exports.reference import Reference
from stages.networks.engine import Choice
from stages.predict.drift import Sample, judge
from stages.predict.ending import ending_cleanly
from stages.predict.formats import FORMATS, Batch, RejectWriter, lines
from stages.predict.preparation import Prepared, prepare, refuse
from stages.sources.disk_table import Files
from stages.sources.listing import File, Reject
from stages.sources.reading import budget, cost
from stages.sources.unlabelled import gather

log = logging.getLogger(__name__)
MODEL = Path("data/exports/winner")
# Bytes of a list of names read at a time.
_CHUNK = 1 << 20
# Images explained at a time, with all their activations in memory.
_EXPLAINED = 4

# Receives rejects, one by one.
OnReject = Callable[[Reject], None]
# From images (n, size, size, 3) and the position of one class each to heatmaps (n, height, width).
Explain = Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.float32]]


class OptionError(UserError):
    """Something on the command line that cannot be used."""

    kind = "predict"


# The command line -----------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(one_line(message), f"as in '{self.prog} images/'", f"see '{self.prog} --help'")


class _Options(argparse.Namespace):
    sources: list[str]
    files0_from: Path | None
    model: Path
    format: Literal["table", "csv", "json"]
    output: Path | None
    rejects: Path | None
    threads: int | None
    explain: Path | None
    drift: bool


def _parse() -> _Options:
    parser = _Parser(prog="python -m stages.predict", description="Predict images with an exported classifier.")
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="image, folder, archive or URL")
    parser.add_argument("--files0-from", type=Path, metavar="FILE", help="list of image paths, each ended by a NUL")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="FOLDER", help=f"an export ({MODEL})")
    parser.add_argument("--format", choices=list(FORMATS), default="table", help="table is for people")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where predictions go (standard output)")
    parser.add_argument("--rejects", type=Path, metavar="FILE", help="a CSV of what is left out (standard error)")
    parser.add_argument(
        "--threads", type=_count, metavar="N", help="CPU threads of the engine (threads of params.yaml)"
    )
    parser.add_argument("--explain", type=Path, metavar="FOLDER", help="new folder for heatmaps laid over the images")
    parser.add_argument("--drift", action="store_true", help="compare the images with those of its training")
    options = parser.parse_args(namespace=_Options())
    if not options.sources and not options.files0_from:
        parser.error("no SOURCE")
    for path in (options.output, options.rejects):
        if path and path.is_dir():
            parser.error(f"'{path}' is a folder, no file to write")
    if options.explain and (options.explain.is_file() or (options.explain.is_dir() and any(options.explain.iterdir()))):
        parser.error(f"--explain '{options.explain}' is not a new or empty folder")
    return options


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:  # noqa: PLR2004 (as for threads of params.yaml)
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 to 1024")
    return int(text)


# Images -------------------------------------------------------------------------------------------------


def list_files(options: _Options, data: DataParams, scratch: Path) -> Files:
    """Return the files and rejects of all sources and of the list. Raise DataError for an unreadable list."""
    files, rejects = gather(options.sources, budget(data), scratch)
    if options.files0_from:
        try:
            for name in _names(options.files0_from):
                files.add(File(Path(name), name))
        except OSError as error:
            raise DataError(
                f"--files0-from '{options.files0_from}' cannot be read ({error.strerror})",
                "a list of images, as 'find -print0' writes it",
                "correct the path",
            ) from error
    return files, rejects


def _names(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        rest = b""
        while chunk := file.read(_CHUNK):
            *whole, rest = (rest + chunk).split(b"\0")
            yield from map(os.fsdecode, whole)
        if rest:
            yield os.fsdecode(rest)


def batches(
    prepared: Iterable[Prepared | Reject], on_reject: OnReject
) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    """Yield paths and images, `BATCH` at a time."""
    waiting: list[Prepared] = []
    for item in prepared:
        if isinstance(item, Reject):
            on_reject(item)
            continue
        waiting.append(item)
        if len(waiting) == BATCH:
            yield [one.path for one in waiting], np.stack([one.pixels for one in waiting])
            waiting = []
    if waiting:
        yield [one.path for one in waiting], np.stack([one.pixels for one in waiting])


def predict(
    files: Files, manifest: Manifest, network: Path, data: DataParams, on_reject: OnReject, engine_threads: int
) -> Generator[Batch, None, None]:
    """Yield the predictions of the OpenVINO form `network` for all images; `on_reject` receives the rejects.

    Images are decoded on all processors while the engine computes on `engine_threads` threads.
    """
    found, left_out = files
    for reject in sorted(left_out, key=lambda reject: (reject.path, reject.reason)):
        on_reject(reject)
    get_ready = partial(prepare, manifest=manifest, data=data)
    # The processes are forked before the engine has threads, which a fork would not copy.
    guard = Guard[File, Prepared | Reject](cost(data), refuse)
    with in_processes(get_ready, found, len(found), "predict", guard) as prepared:
        # Paths and images are returned with the outputs: explaining needs both.
        tagged = (((paths, images), images) for paths, images in batches(prepared, on_reject))
        for (paths, images), found_outputs in outputs(network, engine_threads, tagged):
            yield Batch(paths, images, found_outputs.probabilities, found_outputs.embedding)


# Output ---------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """Provide a file that is replaced completely or not at all. Raise OptionError when it cannot be written."""
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(replacing(path))
            file = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
        except OSError as error:
            raise OptionError(
                f"'{path}' cannot be written ({error.strerror})", "a file in a writable folder", "name another"
            ) from error
        yield file


def _emit(file: IO[str], texts: Iterable[str]) -> None:
    try:
        for text in texts:
            # On a terminal the progress bar is hidden meanwhile.
            with tqdm.external_write_mode(file=file):
                file.write(text)
        file.flush()
    except BrokenPipeError:
        # The reader has stopped reading, as `head` does; at exit Python would flush, and fail, again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
        sys.exit(128 + signal.SIGPIPE)


# Optional extras ------------------------------------------------------------------------------------------


def read_reference(folder: Path) -> Reference:
    """Return the drift reference of an export. Raise ExportError when it is missing or invalid."""
    path = open_reference(folder)
    try:
        return Reference.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ExportError(
            f"'{path}' is not a valid reference", "that of this version", "export again with 'dvc repro export'"
        ) from error


def with_drift(found: Iterable[Batch], reference: Reference, sample: Sample) -> Iterator[Batch]:
    """Yield the batches unchanged, and add them to the sample."""
    for batch in found:
        sample.add(batch.classes, batch.confidences, reference.measure(batch.embedding))
        yield batch


def heatmaps_of(model: Path, engine_threads: int) -> Explain:
    """Return a function that computes heatmaps with the network of the Keras form `model`.

    Raises OptionError when it has no feature map.
    """
    from stages.explanation.saliency import heatmaps
    from stages.networks import explainable, keras_engine, keras_heads

    classifier = keras_engine.load(model)
    head = keras_heads.arrays_of(classifier.get_layer("head"))
    forward, tail = explainable.of(classifier.get_layer("backbone"), Choice("openvino", "float32", engine_threads))
    if tail is None:
        raise OptionError(
            "--explain with a network that has no feature map", "one that has", "leave --explain out for this export"
        )
    return lambda images, labels: heatmaps(forward(images)["map"], tail, head, labels)


def with_overlays(found: Iterable[Batch], maps_of: Explain, classes: Sequence[str], folder: Path) -> Iterator[Batch]:
    """Yield the batches unchanged, and write an overlay of each image with the heatmap of its predicted class.

    The overlays are numbered; `index.csv` maps their names to the images.
    """
    from stages.explanation.overlays import overlay, write_image

    number = 0
    with (folder / "index.csv").open("w", encoding="utf-8", newline="") as index:
        index.write(lines([["overlay", "path", "label"]]))
        for batch in found:
            for start in range(0, len(batch.paths), _EXPLAINED):
                part = slice(start, start + _EXPLAINED)
                images, labels = batch.images[part], batch.classes[part]
                maps = maps_of(images, labels)
                for path, image, label, shown in zip(batch.paths[part], images, labels, maps, strict=True):
                    number += 1
                    name = f"{number:06}.webp"
                    write_image(folder / name, overlay(image, shown))
                    index.write(lines([[name, path, classes[label]]]))
            yield batch


def main() -> None:
    """Predict the images named on the command line."""
    options = _parse()
    manifest, network = open_export(options.model)
    keras = open_export(options.model, "keras")[1] if options.explain else None
    reference = read_reference(options.model) if options.drift else None
    data, count, sample = load(DataParams, "data"), options.threads or threads(), Sample()
    with ending_cleanly(), ExitStack() as stack:
        rejects = RejectWriter(stack.enter_context(_opened(options.rejects)) if options.rejects else None)
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="predict-")))
        files = list_files(options, data, scratch)
        found: Iterator[Batch] = stack.enter_context(
            closing(predict(files, manifest, network, data, rejects.add, count))
        )
        # Nothing is written or replaced before the first prediction exists.
        first = next(found, None)
        if first:
            found = chain([first], found)
            if reference:
                found = with_drift(found, reference, sample)
            if keras and options.explain:
                folder = stack.enter_context(replacing_folder(options.explain.resolve()))
                found = with_overlays(found, heatmaps_of(keras, count), manifest.classes, folder)
            file = stack.enter_context(_opened(options.output)) if options.output else sys.stdout
            costs = np.array(manifest.costs) if manifest.costs else None
            _emit(file, FORMATS[options.format](manifest.classes, found, costs))
        seen = len(files[0]) + len(files[1])
    if not first:
        # Of a single one the line above has said it.
        such = rejects.first if seen > 1 or options.rejects else ""
        raise DataError(f"none of {seen} files could be predicted{such}", "an image that can be read", "name others")
    log.info("%d predicted, %d left out", seen - rejects.count, rejects.count)
    if reference:
        print(f"drift: {judge(reference, sample, manifest.classes).sentence}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
