"""The reference for drift is out-of-sample, though the exported head may be fitted on the validation images too."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import export
from stages.core.files import write_csv
from stages.core.head import Head
from stages.core.predictions import apply_temperature, fit_temperature
from stages.exports.prediction import Outputs
from stages.exports.reference import Reference
from stages.heads import linear
from stages.predict.drift import Sample, Verdict, judge
from tests.support import artefacts

# Embeddings of 768 columns, of which a head can learn fewer images by heart.
CLASSES, SIDE = ("001", "b", "c"), 16
COUNTS = {"train": 90, "validation": 60, "test": 120}


def embedded(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 64


class Study:
    """Images that are their own embeddings, and a linear head fitted on all but the test images."""

    def __init__(self, seed: int, scratch: Path) -> None:
        draw = np.random.default_rng(seed)
        self.labels = {split: np.arange(count) % len(CLASSES) for split, count in COUNTS.items()}
        centres = np.random.default_rng(9).normal(128, 1.7, (len(CLASSES), SIDE, SIDE, 3))
        self.images = {
            split: (centres[labels] + draw.normal(0, 16, (len(labels), SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
            for split, labels in self.labels.items()
        }
        seen = [embedded(self.images[split]) for split in ("train", "validation")]
        labels = np.concatenate([self.labels[split] for split in ("train", "validation")])
        self.solved = linear.solve(
            np.concatenate(seen), labels, np.arange(len(labels)), len(CLASSES),
            linear.Settings((10.0, 100.0, 1000.0), 5, "none"), scratch,
        )  # fmt: skip
        self.temperature = fit_temperature(labels, self.solved.out_of_fold)

    @property
    def head(self) -> Head:
        return self.solved.head.with_temperature(self.temperature)

    def index(self) -> pd.DataFrame:
        rows = [
            (split, row, f"{split}{row:03}.png", CLASSES[label], -1)
            for split, labels in self.labels.items()
            for row, label in enumerate(labels)
        ]
        return pd.DataFrame(rows, columns=["split", "row", "file", "label", "fold"])

    def predictions(self) -> pd.DataFrame:
        """Return predictions.csv as stage probe writes it."""
        found = np.concatenate([self.solved.out_of_fold, self.solved.head.probabilities(embedded(self.images["test"]))])
        table = self.index()[["split", "file", "label"]]
        table["predicted"] = np.array(CLASSES)[found.argmax(axis=1)]
        return table.join(pd.DataFrame(found, columns=[f"p:{name}" for name in CLASSES]))

    def write(self) -> export.Subject:
        """Write the prepared images and the predictions; return the subject of the export."""
        prepared = Path("data/prepared")
        (prepared / str(SIDE)).mkdir(parents=True, exist_ok=True)
        for split, images in self.images.items():
            np.save(prepared / str(SIDE) / f"{split}.npy", images)
        write_csv(prepared / "index.csv", self.index())
        Path("data/models/b").mkdir(parents=True, exist_ok=True)
        write_csv(Path("data/models/b/predictions.csv"), self.predictions())
        facts = artefacts.provenance("b", CLASSES, 1000, "random", "linear") | {"input_size": SIDE}
        return export.Subject("b", "b", facts, {"temperature": self.temperature})

    def reference(self, monkeypatch: pytest.MonkeyPatch) -> Reference:
        """Return the reference that the stage writes, with the network in place of its OpenVINO form."""

        def outputs(_path: Path, _threads: int, batches) -> Iterator[tuple[tuple[()], Outputs]]:
            for tag, images in batches:
                yield tag, Outputs(self.head.probabilities(embedded(images)).astype(np.float32), embedded(images))

        monkeypatch.setattr(export, "outputs", outputs)
        monkeypatch.setattr(export, "threads", lambda: 1)
        export.write_reference(self.write(), Path())
        return Reference.model_validate_json(Path("reference.json").read_bytes())

    def judged(self, known: Reference) -> Verdict:
        """Return the verdict on the test images."""
        new, sample = embedded(self.images["test"]), Sample()
        found = self.head.probabilities(new)
        sample.add(found.argmax(axis=1), found.max(axis=1), known.measure(new))
        return judge(known, sample, CLASSES)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_a_head_fitted_on_both_splits_finds_no_drift_in_new_images_of_the_same_kind(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(seed, tmp_path)
    known = study.reference(monkeypatch)
    verdict = study.judged(known)
    assert not verdict.found, verdict.sentence
    # What the head says of the images that it was fitted on is no reference.
    own = study.head.probabilities(embedded(study.images["validation"]))
    seen = [
        (actual, int(row.argmax()), float(row.max()), distance)
        for (actual, *_, distance), row in zip(known.validation, own, strict=True)
    ]
    assert study.judged(known.model_copy(update={"validation": tuple(seen)})).found


def test_validation_images_without_a_prediction_are_left_out_and_the_others_joined_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(0, tmp_path)
    table = study.predictions()
    places = table.index[table["split"] == "validation"]
    # Of a class too small to hold out there is no row.
    monkeypatch.setattr(study, "predictions", lambda: table.drop(places[3])[::-1])
    known = study.reference(monkeypatch)
    rows = table.loc[places.drop(places[3])]
    assert [CLASSES[actual] for actual, *_ in known.validation] == rows["label"].tolist()
    assert [CLASSES[predicted] for _, predicted, *_ in known.validation] == rows["predicted"].tolist()
    found = apply_temperature(rows.filter(like="p:").to_numpy(), study.temperature)
    expected = known.measure(embedded(np.delete(study.images["validation"], 3, axis=0)))
    np.testing.assert_allclose([confidence for *_, confidence, _ in known.validation], found.max(axis=1), atol=1e-6)
    np.testing.assert_allclose([distance for *_, distance in known.validation], expected, rtol=1e-4)


def test_of_many_validation_images_some_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_REFERENCE_IMAGES", 30)
    known = Study(0, tmp_path).reference(monkeypatch)
    assert (known.training_images, len(known.validation)) == (30, 30)
