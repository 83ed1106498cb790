"""Stage `export@NAME`: write a whole classifier in several formats, and compare each with Keras.

Where the backbone is from an ONNX file there are two forms, and ONNX takes the place of Keras.

NAME is a backbone or `winner`: the one that the report recommends, or else the best one. The classifier joins
the network of `data/weights`, its trained blocks and the head of `data/models`, and includes the temperature.

Writes `data/exports/NAME/`:

    the forms         see stages/exports/exporting.py
    comparison.csv    the deviation of each form from Keras on the test images
    reference.json    reference statistics of the training and validation embeddings, for drift (with the OpenVINO form)
    README.md         the model card
    manifest.json     what programs need to know, with the checksums of every form's files

Latencies differ from run to run, so they are in `data/latencies/NAME.csv`, marked where they were measured on a busy
machine.

The stage fails if a float32 form predicts another class than Keras on more than `export.tolerance` of the images, or if
its probabilities differ by more than `export.largest_difference`. int8 may differ: its accuracy is reported.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages.core import predictions
from stages.core.builders.onnx_files import ONNX
from stages.core.dataset.prepared import SPLITS, Rows, array_path, read_index, selected
from stages.core.errors import DataError, ParameterError, run
from stages.core.files import read_csv, read_json, replacing_folder, write_csv, write_json, write_text
from stages.core.head import Head
from stages.core.head import load as load_head
from stages.core.manifest import PATHS, ExportError, Form, Manifest, checksums, write_manifest
from stages.core.measure import Measure
from stages.core.params import load, lookup, nearest, read, seed, threads
from stages.core.presets import QUICK
from stages.core.settings.export import WINNER, ExportParams, Format
from stages.core.settings.report import ACCURACY, BEST, PRESET, RECOMMENDED, backbones_of, winner
from stages.exports import agreement, card, licences, reference
from stages.exports.prediction import BATCH, outputs
from stages.networks import engine
from stages.networks.processor import processor
from stages.networks.timing import measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.exports.exporting import Classifier
    from stages.exports.runners import Run

log = logging.getLogger(__name__)
METRICS = Path("data/metrics.json")
WEIGHTS = Path("data/weights")
MODELS = Path("data/models")
EVALUATIONS = Path("data/evaluations")
PREPARED = Path("data/prepared")
EXPORTS = Path("data/exports")
LATENCIES = Path("data/latencies")
COMPARISON = "comparison.csv"
REFERENCE = "reference.json"
# Images in memory at a time.
_BATCH = 16
_WARMUP = 3
# Fraction of the evaluated predictions that may differ: ties, and activations stored in float16.
_EVALUATED = 0.05
_INT8 = "litert_int8"
# What the first form of a classifier is called.
_LIBRARIES = {"keras": "Keras", "onnx": "ONNX"}
# The most training images, and validation images, that the reference is computed from.
_REFERENCE_IMAGES = 2000


@dataclass(frozen=True)
class Subject:
    """The classifier to export: its name, its backbone, and the results of earlier stages."""

    name: str
    backbone: str
    provenance: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return tuple(self.provenance["classes"])

    @property
    def possible(self) -> tuple[Format, ...]:
        """The forms that it may have; the first is what the others are compared with."""
        return ("onnx", "openvino") if self.provenance["builder"] == ONNX else get_args(Format)

    @property
    def size(self) -> int:
        """The side of the images, pixels."""
        return int(self.provenance["input_size"])

    @property
    def measure(self) -> Measure:
        """The measure that decided, with the costs that stage evaluate used."""
        found = self.metrics["measure"]
        return Measure(found["name"], found.get("matrix", {}))

    def head(self) -> Head:
        """Read the head that was kept."""
        return load_head(MODELS / self.backbone / "head.npz")


def named(names: tuple[str, ...]) -> str:
    """Return the export named on the command line. Raise ParameterError unless it is one of `names`."""
    given = sys.argv[1:]
    if len(given) != 1 or given[0] not in names:
        raise ParameterError(
            f"export of '{' '.join(given)}'",
            f"one of export.backbones ({', '.join(names)})",
            (nearest(given[0], list(names)) if given else "") or "add it there, or name one of these",
        )
    return given[0]


def read_subject(name: str) -> Subject:
    """Return the subject of the export `name`. Raise DataError when an earlier stage has not run."""
    _require(METRICS, "compare")
    compared = read_json(METRICS)
    backbone = winner(compared) if name == WINNER else name
    provenance, metrics = MODELS / backbone / "provenance.json", EVALUATIONS / backbone / "metrics.json"
    _require(provenance, f"finetune@{backbone}")
    _require(metrics, "evaluate")
    return Subject(name, backbone, read_json(provenance), read_json(metrics))


def _require(path: Path, stage: str) -> None:
    if not path.is_file():
        raise DataError(f"no {path}", f"the output of stage {stage.partition('@')[0]}", f"run 'dvc repro {stage}'")


def select(index: pd.DataFrame, split: str, most: int) -> pd.DataFrame:
    """Return the rows of at most `most` images of a split, evenly spaced."""
    rows = selected(index, split)
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]


def rows_of(chosen: pd.DataFrame, size: int) -> Rows:
    """Return the images of `chosen` rows of the index."""
    return Rows(chosen, {split: array_path(PREPARED, size, split) for split in SPLITS})


def predict(network: "Run", images: Rows) -> "NDArray[np.float32]":
    """Return the probabilities of all images, (n, classes)."""
    return np.concatenate([network(batch) for batch in images.batches(_BATCH)])


def require_agreement(subject: Subject, form: Format, found: dict[str, float], params: ExportParams) -> None:
    """Raise ExportError when a float32 form deviates from the first by more than section `export` allows."""
    differing, largest = 1 - found["agreement"], found["largest_difference"]
    # Written so that a NaN fails as well.
    if form == _INT8 or (differing <= params.tolerance and largest <= params.largest_difference):
        return
    raise ExportError(
        f"'{form}' of '{subject.backbone}' predicts another class than {_LIBRARIES[subject.possible[0]]} on "
        f"{differing:.2%} of {found['images']} test images, and its probabilities differ by up to {largest:.3g}",
        f"at most {params.tolerance:.2%} (export.tolerance) and {params.largest_difference:g} "
        "(export.largest_difference)",
        f"remove '{form}' from export.formats, or raise the limit if that is acceptable",
    )


def read_evaluated(subject: Subject) -> pd.DataFrame:
    """Read the predictions that were evaluated: of images that the fits which predict them had not seen."""
    return predictions.read_predictions(MODELS / subject.backbone / "predictions.csv")


def evaluated(subject: Subject, table: pd.DataFrame, chosen: pd.DataFrame, split: str) -> predictions.Predictions:
    """Return the rows of `table` for the `chosen` images of a split, in their order, scaled by the temperature."""
    rows = table[table["split"] == split].set_index("file").loc[chosen["file"].tolist()].reset_index()
    found = predictions.of_split(rows, split, subject.classes)
    scaled = predictions.apply_temperature(found.probabilities, subject.metrics["temperature"])
    return replace(found, probabilities=scaled)


def require_evaluated(subject: Subject, chosen: pd.DataFrame, found: "NDArray[np.float32]") -> None:
    """Log how far the network deviates from the evaluated predictions, scaled by the same temperature.

    Raises RuntimeError when too many classes differ although everything was computed in float32: in a reduced precision
    features differ slightly, and those of random networks noticeably.
    """
    scaled = evaluated(subject, read_evaluated(subject), chosen, "test").probabilities
    differing = float((scaled.argmax(axis=1) != found.argmax(axis=1)).mean())
    precision = subject.provenance["precision"]
    log.info(
        "%s: %.1f %% of the classes differ from the predictions evaluated in %s; largest difference %.3g",
        subject.backbone, 100 * differing, precision, float(np.abs(scaled - found).max()),
    )  # fmt: skip
    if precision == "float32" and differing > _EVALUATED:
        raise RuntimeError(f"{subject.backbone}: {differing:.1%} of its predictions differ from the evaluated ones")


def export(subject: Subject, params: ExportParams, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write every form to `folder`; return its deviation from the first (agreement.COLUMNS) and its latency.

    Raises ExportError when one deviates too far.
    """
    from stages.exports import runners

    index = read_index(PREPARED)
    tested = select(index, "test", params.test_images)
    images = rows_of(tested, subject.size)
    actual = np.array([subject.classes.index(label) for label in tested["label"]])
    write = read_writer(subject, rows_of(select(index, "train", params.calibration_images), subject.size))
    expected, table, latencies = None, [], []
    for form in tqdm(forms_of(subject, params.formats), desc=f"export {subject.name}", unit="form", disable=None):
        write(form, folder)
        network = runners.runner(form, folder / PATHS[form], threads())
        found = predict(network, images)
        if expected is None:
            expected = found
            require_evaluated(subject, tested, found)
        confidence = lookup(read(), "evaluate.confidence")
        compared = agreement.agreement(expected, found, actual, confidence, subject.metrics["design_effect"])
        require_agreement(subject, form, compared, params)
        _report(
            subject,
            form,
            predictions.Predictions(subject.classes, actual, found.argmax(axis=1), found.astype(np.float64)),
        )
        table.append({"format": form, "size_mb": size_mb(folder, form)} | compared)
        passes = measure(partial(network, images[:1]), _WARMUP, params.latency_repeats)
        latencies.append({"format": form, **passes.latency()})
    return pd.DataFrame(table)[list(agreement.COLUMNS)], pd.DataFrame(latencies).assign(processor=processor())


def _report(subject: Subject, form: Format, found: predictions.Predictions) -> None:
    """Log the value of the measure that decided, of a form; stage export logs the accuracy anyway."""
    if subject.measure.name != ACCURACY:
        log.info("%s %s: %s %.3f", subject.backbone, form, subject.measure.words, subject.measure.value(found))


def forms_of(subject: Subject, wanted: tuple[Format, ...]) -> list[Format]:
    """Return the wanted forms that a subject may have, after the one that the others are compared with."""
    first, *others = subject.possible
    if left := [form for form in wanted if form not in subject.possible]:
        log.warning(
            "%s: not exported as %s: a network from an ONNX file has only the forms onnx and openvino",
            subject.backbone, ", ".join(left),
        )  # fmt: skip
    return [first, *(form for form in wanted if form in others)]


def read_writer(subject: Subject, calibration: Rows) -> Callable[[Format, Path], None]:
    """Return what writes a form of the whole classifier, temperature included, into a folder."""
    head = subject.head().with_temperature(subject.metrics["temperature"])
    if subject.provenance["builder"] == ONNX:
        from stages.exports import onnx_export

        _require(WEIGHTS / subject.backbone / "backbone.json", f"weights@{subject.backbone}")
        return partial(onnx_export.write, onnx_export.read(WEIGHTS / subject.backbone, head, subject.classes))

    from stages.networks.keras_engine import make_deterministic

    make_deterministic(seed(), threads())
    from stages.exports import exporting

    return partial(exporting.write, read_classifier(subject, head, calibration))


def read_classifier(subject: Subject, head: Head, calibration: Rows) -> "Classifier":
    """Return the classifier of Keras with this `head`, with images to calibrate int8."""
    from stages.exports import exporting
    from stages.networks import keras_engine

    _require(path := WEIGHTS / subject.backbone / keras_engine.BACKBONE, f"weights@{subject.backbone}")
    trained = subject.provenance["top"] is not None
    top = keras_engine.load(MODELS / subject.backbone / engine.TOP) if trained else None
    model = exporting.joined(keras_engine.load(path), top, head)

    def images() -> "Iterator[NDArray[np.uint8]]":
        for batch in calibration.batches(_BATCH):
            yield from batch

    return exporting.Classifier(model, subject.classes, images)


def write_reference(subject: Subject, folder: Path) -> None:
    """Write `reference.json`.

    Embeddings are those of the OpenVINO form, which also predicts new images. What validation images are predicted as
    is taken from the evaluated predictions: the exported head may be fitted on these images.
    """
    index, table = read_index(PREPARED), read_evaluated(subject)
    training = select(index, "train", _REFERENCE_IMAGES)
    # Images of classes too small to hold out have no prediction.
    validation = select(index[index["file"].isin(table["file"])], "validation", _REFERENCE_IMAGES)
    held_out = evaluated(subject, table, validation, "validation")
    found = reference.fit(
        _embedded(subject, folder, training),
        [subject.classes.index(label) for label in training["label"]],
        _embedded(subject, folder, validation),
        held_out.actual.tolist(),
        held_out.probabilities,
    )
    write_json(folder / REFERENCE, found.model_dump())


def _embedded(subject: Subject, folder: Path, chosen: pd.DataFrame) -> "NDArray[np.float64]":
    """Return the hashed embeddings of `chosen` rows of the index, by the OpenVINO form."""
    batches = (((), batch) for batch in rows_of(chosen, subject.size).batches(BATCH))
    found = outputs(folder / PATHS["openvino"], threads(), batches)
    return np.concatenate([reference.hashed(part.embedding) for _, part in found])


def size_mb(folder: Path, form: Format) -> float:
    """Return the size of a form's files, MB, rounded to 10 kB."""
    return round(sum((folder / name).stat().st_size for name in checksums(folder, PATHS[form])) / 1e6, 2)


def write_card(subject: Subject, folder: Path, forms: pd.DataFrame, manifest: Manifest) -> None:
    """Write the model card."""
    index = read_index(PREPARED)
    counts = pd.crosstab(index["label"], index["split"])
    compared, hidden = read_json(METRICS), subject.head().layers[:-1]
    backbones = backbones_of(compared)
    text = card.card(
        card.Subject(
            name=subject.name,
            backbone=subject.backbone,
            best=compared[BEST],
            recommended=compared[RECOMMENDED],
            compared=compared[subject.backbone],
            rivals=len(backbones) - 1,
            quick=compared.get(PRESET) == QUICK,
            measure=subject.measure,
            metrics=subject.metrics,
            confusion=read_csv(EVALUATIONS / subject.backbone / "confusion.csv", text=("actual", "predicted")),
            provenance=subject.provenance,
            layers=[(len(layer.bias), layer.activation) for layer in hidden],
            counts=counts.reindex(index=list(subject.classes), columns=list(SPLITS), fill_value=0),
            forms=forms,
            manifest=manifest.model_dump(),
            licence=licences.licence_of(subject.provenance["builder"], subject.provenance["weights"]["source"]),
        )
    )
    write_text(folder / "README.md", text)


def describe(subject: Subject, folder: Path, formats: tuple[Format, ...]) -> Manifest:
    """Return the manifest of the forms in `folder`."""
    return Manifest(
        backbone=subject.backbone,
        classes=subject.classes,
        input_size=subject.size,
        fit=lookup(read(), "preprocess.fit"),
        temperature=subject.metrics["temperature"],
        weights=subject.provenance["weights"],
        output="probabilities",
        costs=_costs(subject),
        formats={form: Form(path=PATHS[form], files=checksums(folder, PATHS[form])) for form in formats},
        comparison=checksums(folder, COMPARISON),
        reference=checksums(folder, REFERENCE) if "openvino" in formats else None,
    )


def _costs(subject: Subject) -> tuple[tuple[float, ...], ...] | None:
    """Return the costs that decide, as stage evaluate used them; None where another measure does."""
    matrix = subject.metrics["measure"].get("matrix")
    if matrix is None:
        return None
    return tuple(tuple(float(matrix[actual][decided]) for decided in subject.classes) for actual in subject.classes)


def main() -> None:
    """Write `data/exports/NAME/` for the export named on the command line."""
    params = load(ExportParams, "export")
    subject = read_subject(named(params.backbones))
    with replacing_folder(EXPORTS / subject.name) as folder:
        forms, latencies = export(subject, params, folder)
        write_csv(folder / COMPARISON, forms)
        if "openvino" in tuple(forms["format"]):
            write_reference(subject, folder)
        manifest = describe(subject, folder, tuple(forms["format"]))
        write_card(subject, folder, forms, manifest)
        write_manifest(folder, manifest)
    write_csv(LATENCIES / f"{subject.name}.csv", latencies)
    for row, took in zip(forms.to_dict("records"), latencies["latency_ms_median"], strict=True):
        log.info(
            "%s %s: %.2f MB, %.1f %% agreement with %s, largest difference %.3g, accuracy %.1f %%, %.1f ms",
            subject.backbone, row["format"], row["size_mb"], 100 * row["agreement"], _LIBRARIES[subject.possible[0]],
            row["largest_difference"], 100 * row["accuracy"], took,
        )  # fmt: skip


if __name__ == "__main__":
    run(main)
