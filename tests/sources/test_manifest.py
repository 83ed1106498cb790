"""The manifest names and groups its images when all are known, and holds few bytes of each in memory."""

import hashlib
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd

from stages.core.dataset.duplicates import groups
from stages.sources.manifest import Accepted, Manifest
from stages.sources.quality import SCORES
from tests.support.processes import alone


def digest(value: object) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()


def accepted(number: int, **changes: Any) -> Accepted:
    values: dict[str, Any] = {
        "path": f"tree/{number:06}.jpg",
        "label": "tree",
        "sha256": digest(number),
        "pixels_sha256": digest(f"pixels of {number}"),
        "width": 640,
        "height": 480,
        "format": "JPEG",
        "mode": "RGB",
        "bytes": 1000,
        "source_split": "",
        "source_group": "",
        "phash": digest(f"looks of {number}"),
        "colours": "80" * 8,
        "scores": tuple(number % 7 / len(SCORES) for _ in SCORES),
    }
    return Accepted(**values | changes)


def named(*images: Accepted, near_duplicates: int | None = 16) -> Manifest:
    manifest = Manifest()
    for number, image in enumerate(images):
        manifest.add(image, 10 * number)
    manifest.name(near_duplicates)
    return manifest


def table(manifest: Manifest) -> pd.DataFrame:
    return pd.concat(manifest.parts(), ignore_index=True)


def test_copies_of_a_file_are_numbered_within_one_label_and_format() -> None:
    same = {"sha256": digest("one file")}
    manifest = named(
        accepted(0, **same),
        accepted(1, **same, label="plank"),
        accepted(2, **same, format="PNG"),
        accepted(3, **same),
        accepted(4, **same),
    )
    stem = same["sha256"][:16]
    assert dict(manifest.places(contradicting=False)) == {
        0: f"tree/{stem}.jpg",
        10: f"plank/{stem}.jpg",
        20: f"tree/{stem}.png",
        30: f"tree/{stem}-2.jpg",
        40: f"tree/{stem}-3.jpg",
    }


def test_images_under_two_labels_are_apart_from_the_manifest() -> None:
    same = {"sha256": digest("one file"), "pixels_sha256": "a" * 64}
    manifest = named(
        accepted(0, **same), accepted(1, **same, label="plank"), accepted(2, **same), accepted(3), accepted(4)
    )
    stem = same["sha256"][:16]
    assert dict(manifest.places(contradicting=True)) == {0: f"{stem}.jpg", 10: f"{stem}-2.jpg", 20: f"{stem}-3.jpg"}
    rows = manifest.contradicting()
    assert rows["path"].tolist() == ["tree/000000.jpg", "tree/000001.jpg", "tree/000002.jpg"]
    assert set(rows["group"]) == {"a" * 32}
    assert sorted(table(manifest)["path"]) == ["tree/000003.jpg", "tree/000004.jpg"]
    assert manifest.labels() == ["tree"]
    assert len(manifest) == 2


def test_groups_are_those_of_the_whole_table() -> None:
    draw = np.random.default_rng(0)
    images = [
        accepted(
            number,
            pixels_sha256=digest(draw.integers(200)),
            phash=f"{int(digest(draw.integers(150)), 16) ^ 1 << int(draw.integers(256)):064x}",
            source_group=str(draw.choice(["", "", "", "anna", "bo", f"group {number}"])),
        )
        for number in range(300)
    ]
    for limit in (None, 0, 2, 16):
        rows = table(named(*images, near_duplicates=limit)).sort_values("path", ignore_index=True)
        assert rows["group"].tolist() == groups(rows, limit).tolist()
        assert named(*images, near_duplicates=limit).largest_group() == rows["group"].value_counts().max()


def test_parts_are_sorted_by_file_and_keep_text_and_numbers_as_they_are() -> None:
    labels = ["é", "001", "NA", "B", "a", "木"]
    manifest = named(*(accepted(number, label=label) for number, label in enumerate(labels)))
    rows = table(manifest)
    assert rows["label"].tolist() == sorted(labels)
    assert rows["width"].tolist() == [640] * 6
    assert rows[list(SCORES)].dtypes.unique().tolist() == [np.dtype(float)]


def test_nothing_at_all_has_the_columns_of_a_manifest() -> None:
    manifest = named()
    assert table(manifest).columns[:3].tolist() == ["file", "path", "label"]
    assert (len(manifest), manifest.labels(), manifest.largest_group()) == (0, [], 0)


def peaks(count: int) -> tuple[int, int]:
    """Return the most bytes that Python and NumPy hold while this many images are added, named and read back."""
    tracemalloc.start()
    try:
        manifest = Manifest()
        for number in range(count):
            manifest.add(accepted(number), number)
        manifest.name(16)
        naming = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert sum(len(part) for part in manifest.parts()) == count
        assert sum(1 for _ in manifest.places(contradicting=False)) == count
        return naming, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_image_takes_few_bytes_of_memory() -> None:
    # What is imported on the way would count. From some thousand rows on, parts are as large as they get.
    peaks(10)
    few, many = alone(peaks, 4000), alone(peaks, 8000)
    assert (many[0] - few[0]) / 4000 < 180
    assert (many[1] - few[1]) / 4000 < 20
