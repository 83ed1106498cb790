"""Ingest keeps whole images as they are, and lists all that it leaves out."""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from stages.core import params
from stages.core.dataset.duplicates import colours, perceptual_hash
from stages.core.errors import DataError, GroupedUserError
from stages.core.files import read_csv
from stages.core.parallel import BATCH
from stages.core.params import parse
from stages.ingest import DataParams, ingest, main
from stages.sources.disk_table import DiskTable
from stages.sources.folders import read_folder
from stages.sources.listing import Found, Reject
from stages.sources.quality import SCORES, score
from tests.support.processes import alive, await_end, children

ROOT = Path(__file__).parents[2]

VALUES: dict[str, Any] = {
    "source": "source",
    "checksum": None,
    "exclude": [],
    "near_duplicates": 16,
    "max_unpacked_gigabytes": 1,
    "max_seconds": 10,
    "max_memory_gigabytes": 1,
    "max_unpack_minutes": 1,
    "max_unpack_memory_gigabytes": 0.5,
    "max_fetch_minutes": 1,
    "min_pixels": 32,
    "max_megapixels": 0.1,
    "max_megabytes": 0.05,
}


def image(seed: int, form: str = "JPEG", size: tuple[int, int] = (48, 40), **options: Any) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(noise).save(stream, form, **options)
    return stream.getvalue()


def lay_out(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@dataclass
class Taken:
    """What came in, in memory."""

    manifest: pd.DataFrame
    quarantine: pd.DataFrame
    rejects: list[Reject]


def take(
    found: DiskTable[Found],
    left_out: list[Reject],
    folders: tuple[Path, Path],
    workers: int | None = None,
    **changes: Any,
) -> Taken:
    intake = ingest(found, left_out, parse(DataParams, VALUES | changes, "data"), folders, workers)
    return Taken(pd.concat(intake.manifest.parts(), ignore_index=True), intake.quarantine, intake.rejects)


def take_in(tmp_path: Path, files: dict[str, bytes], workers: int | None = None, **changes: Any) -> tuple[Taken, Path]:
    source, folder, quarantine = tmp_path / "source", tmp_path / "raw", tmp_path / "quarantine"
    lay_out(source, files)
    folder.mkdir()
    quarantine.mkdir()
    found, left_out = read_folder(source)
    return take(found, left_out, (folder, quarantine), workers, **changes), folder


def reasons(intake: Taken) -> dict[str, str]:
    return {reject.path: reject.reason for reject in intake.rejects}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_accepted_images_keep_their_bytes_under_the_name_of_their_content(tmp_path: Path) -> None:
    first, second = image(1), image(2, "PNG")
    intake, folder = take_in(tmp_path, {"tree/a.jpg": first, "plank/b.png": second})
    names = {data: hashlib.sha256(data).hexdigest()[:16] for data in (first, second)}
    assert contents(folder) == {f"tree/{names[first]}.jpg": first, f"plank/{names[second]}.png": second}
    assert intake.manifest["file"].tolist() == [f"plank/{names[second]}.png", f"tree/{names[first]}.jpg"]
    assert intake.rejects == []


def test_the_manifest_describes_each_image(tmp_path: Path) -> None:
    data = image(1)
    intake, _ = take_in(tmp_path, {"train/tree/a b.jpg": data})
    (row,) = intake.manifest.to_dict("records")
    decoded = Image.open(BytesIO(data)).convert("RGB")
    digest = hashlib.sha256(b"48 x 40 " + decoded.tobytes()).hexdigest()
    checksum = hashlib.sha256(data).hexdigest()
    assert row == {
        "file": f"tree/{checksum[:16]}.jpg",
        "path": "train/tree/a b.jpg",
        "label": "tree",
        "sha256": checksum,
        "pixels_sha256": digest,
        "width": 48,
        "height": 40,
        "format": "JPEG",
        "mode": "RGB",
        "bytes": len(data),
        "source_split": "",
        "source_group": "",
        "phash": perceptual_hash(decoded),
        "colours": colours(decoded),
        "group": digest[:32],
    } | dict(zip(SCORES, score(decoded), strict=True))
    assert list(row)[-len(SCORES) - 1 :] == ["group", *SCORES]


def test_width_and_height_are_those_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    intake, _ = take_in(tmp_path, {"tree/a.jpg": image(1, exif=exif)})
    assert intake.manifest[["width", "height"]].to_numpy().tolist() == [[40, 48]]


def test_the_suffix_is_that_of_the_content(tmp_path: Path) -> None:
    intake, _ = take_in(tmp_path, {"tree/a.jpg": image(1, "PNG"), "tree/b": image(2, "WEBP")})
    assert sorted(Path(file).suffix for file in intake.manifest["file"]) == [".png", ".webp"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file: no bytes"),
        (b"a,b\n1,2\n", "not an image: in no known format, or its header is broken"),
        (image(1)[:-100], "broken: the JPEG stops before its end marker"),
        (image(1, size=(100, 31)), "too small: 100 x 31 pixels, the shorter side has to be 32"),
        (image(1, "PNG", (60, 60)) + bytes(50_000), "too large: 0.1 MB, at most 0.05"),
        (image(1, "JPEG", (400, 300), quality=1), "too many pixels: 400 x 300, at most 0.1 million"),
        (image(1, "PPM"), "unsupported format: PPM is not one of AVIF, BMP, GIF, HEIF, JPEG, PNG, TIFF, WEBP"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    intake, folder = take_in(tmp_path, {"tree/good.jpg": image(9), "tree/bad.jpg": data})
    assert reasons(intake) == {"tree/bad.jpg": reason}
    assert len(intake.manifest) == len(contents(folder)) == 1


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        # A mode of 0 stops no one who runs as root.
        if path.name == "locked.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    intake, _ = take_in(tmp_path, {"tree/good.jpg": image(1), "tree/locked.jpg": image(2)})
    assert reasons(intake) == {"tree/locked.jpg": "unreadable: Permission denied"}


def test_byte_identical_copies_are_numbered_by_their_paths(tmp_path: Path) -> None:
    data = image(1)
    intake, folder = take_in(tmp_path, {"a/tree/3.jpg": data, "b/tree/1.jpeg": data, "c/tree/2.jpg": data})
    stem = f"tree/{hashlib.sha256(data).hexdigest()[:16]}"
    files = dict(zip(intake.manifest["path"], intake.manifest["file"], strict=True))
    assert files == {"a/tree/3.jpg": f"{stem}.jpg", "b/tree/1.jpeg": f"{stem}-2.jpg", "c/tree/2.jpg": f"{stem}-3.jpg"}
    assert set(contents(folder).values()) == {data}
    assert len(set(intake.manifest["group"])) == 1


def test_the_same_pixels_in_two_formats_are_one_group(tmp_path: Path) -> None:
    intake, _ = take_in(
        tmp_path, {"tree/1.png": image(1, "PNG"), "tree/2.bmp": image(1, "BMP"), "tree/3.png": image(2, "PNG")}
    )
    assert intake.manifest["group"].value_counts().tolist() == [2, 1]


def test_near_copies_are_one_group_and_both_stay(tmp_path: Path) -> None:
    files = {f"tree/{quality}.jpg": image(1, quality=quality) for quality in (98, 85)}
    for limit, groups in ((16, 1), (None, 2)):
        intake, _ = take_in(tmp_path / str(limit), files, near_duplicates=limit)
        assert (len(intake.manifest), intake.manifest["group"].nunique()) == (2, groups)


def test_a_image_under_two_labels_is_left_out_of_both_and_kept_apart(tmp_path: Path) -> None:
    same, other = image(1), image(2)
    intake, folder = take_in(tmp_path, {"tree/1.jpg": same, "plank/2.jpg": same, "plank/3.jpg": other})
    assert intake.manifest["path"].tolist() == ["plank/3.jpg"]
    assert list(contents(folder).values()) == [other]
    assert reasons(intake) == {
        "plank/2.jpg": "two labels: the same image as 'tree/1.jpg'",
        "tree/1.jpg": "two labels: the same image as 'plank/2.jpg'",
    }
    stem = hashlib.sha256(same).hexdigest()[:16]
    assert contents(tmp_path / "quarantine") == {f"{stem}.jpg": same, f"{stem}-2.jpg": same}
    assert sorted(intake.quarantine["file"]) == [f"{stem}-2.jpg", f"{stem}.jpg"]
    assert intake.quarantine.columns.tolist() == ["file", "path", "label", "group"]
    assert sorted(intake.quarantine["label"]) == ["plank", "tree"]


@pytest.mark.parametrize("name", ["path", "sha256", "start of sha256", "pixels_sha256"])
def test_what_the_user_excludes_is_left_out_by_path_or_digest(tmp_path: Path, name: str) -> None:
    data = image(1)
    sha256 = hashlib.sha256(data).hexdigest()
    pixels = hashlib.sha256(b"48 x 40 " + Image.open(BytesIO(data)).convert("RGB").tobytes()).hexdigest()
    entry = {"path": "tree/1.jpg", "sha256": sha256, "start of sha256": sha256[:16].upper(), "pixels_sha256": pixels}[
        name
    ]
    intake, _ = take_in(tmp_path, {"tree/1.jpg": data, "tree/2.jpg": image(2)}, exclude=[entry])
    assert reasons(intake) == {"tree/1.jpg": f"excluded: data.exclude names '{entry}'"}
    assert intake.manifest["path"].tolist() == ["tree/2.jpg"]


def test_an_exclusion_that_meets_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Too short for a digest, and no path.
    short = hashlib.sha256(image(1)).hexdigest()[:15]
    intake, _ = take_in(tmp_path, {"tree/1.jpg": image(1)}, exclude=["tree/01.jpg", short])
    assert len(intake.manifest) == 1
    assert sorted(caplog.messages) == [
        f"data.exclude: no image has the path or the digest '{entry}'" for entry in sorted([short, "tree/01.jpg"])
    ]


def test_what_the_source_says_of_a_image_stands_in_the_manifest(tmp_path: Path) -> None:
    lay_out(tmp_path, {"1.jpg": image(1), "2.jpg": image(2)})
    folders = (tmp_path / "raw", tmp_path / "quarantine")
    for folder in folders:
        folder.mkdir()
    found = DiskTable(Found)
    for n in (1, 2):
        found.add(Found(tmp_path / f"{n}.jpg", f"{n}.jpg", "tree", "test", "anna"))
    manifest = take(found, [], folders).manifest
    assert manifest["source_split"].tolist() == ["test", "test"]
    assert manifest["source_group"].tolist() == ["anna", "anna"]
    assert len(set(manifest["group"])) == 1


def test_odd_names_do_no_harm(tmp_path: Path) -> None:
    names = ["-rf", 'l\'arbre "x"', "🧘🏽", "a,b", "two words ", "NA", "001"]
    intake, folder = take_in(tmp_path, {f"{name}/-{n}\n.jpg": image(n) for n, name in enumerate(names)})
    assert sorted(intake.manifest["label"]) == sorted(names)
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_names_that_no_table_can_hold_are_left_out(tmp_path: Path) -> None:
    intake, _ = take_in(tmp_path, {os.fsdecode(b"caf\xe9/1.jpg"): image(1), "tree/2.jpg": image(2)})
    assert list(reasons(intake)) == ["caf\\udce9/1.jpg"]
    assert intake.manifest["label"].tolist() == ["tree"]


def test_the_number_of_workers_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Enough for three processes; some under two labels, some broken, some left out.
    files = {f"{'tree' if n % 2 else 'plank'}/{n}.jpg": image(n % 23) for n in range(3 * BATCH)}
    files |= {f"tree/broken {n}.jpg": image(n)[:-30] for n in range(5)}
    results = []
    for workers in (1, 3):
        (tmp_path / str(workers)).mkdir()
        intake, folder = take_in(tmp_path / str(workers), files, workers, exclude=["tree/7.jpg", "nowhere"])
        index = intake.quarantine.to_csv()
        results.append((intake.manifest.to_csv(), index, reasons(intake), contents(folder), caplog.messages.copy()))
        caplog.clear()
    assert results[0] == results[1]
    assert results[0][-1] == ["data.exclude: no image has the path or the digest 'nowhere'"]


# --- the stage as a whole ---


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    params.read.cache_clear()
    return tmp_path


def configure(project: Path, **changes: Any) -> None:
    (project / "params.yaml").write_text(yaml.safe_dump({"seed": 1, "threads": 1, "data": VALUES | changes}))
    params.read.cache_clear()


def test_the_stage_writes_images_tables_and_counts(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    files = {"tree/1.jpg": image(1), "plank/2.jpg": image(2), "plank/3.jpg": b"", "goddess/4.jpg": b"x"}
    lay_out(project / "shared" / "poses", files)
    (project / "project").mkdir()
    os.chdir(project / "project")
    configure(project / "project", source="../shared/poses")
    main()
    manifest = read_csv(Path("data/manifest.csv"), text=("file", "label", "group"))
    assert sorted(contents(Path("data/raw"))) == manifest["file"].tolist()
    assert read_csv(Path("data/rejects.csv"))[["path", "label"]].to_numpy().tolist() == [
        ["goddess/4.jpg", "goddess"],
        ["plank/3.jpg", "plank"],
    ]
    assert contents(Path("data/quarantine")) == {"index.csv": b"file,path,label,group\n"}
    assert caplog.messages == [
        "2 images of 2 classes accepted",
        "2 rejected (not an image: 1, empty file: 1); each with its reason in data/rejects.csv",
        "class 'goddess' has no images left and is not part of this comparison",
    ]


def test_two_runs_write_the_same_bytes(project: Path) -> None:
    configure(project)
    lay_out(project / "source", {f"{label}/{n}.jpg": image(n) for n, label in enumerate(["tree", "plank"] * 3)})
    main()
    first = contents(project / "data")
    main()
    assert contents(project / "data") == first
    assert not list((project / "data").glob(".*"))


def test_without_left_out_files_there_is_no_warning(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    configure(project)
    lay_out(project / "source", {"tree/1.jpg": image(1), "plank/2.jpg": image(2)})
    main()
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == []
    assert read_csv(Path("data/rejects.csv")).columns.tolist() == ["path", "label", "reason"]


def test_one_group_of_most_images_is_a_warning(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    configure(project)
    lay_out(project / "source", {f"tree/{n}.jpg": image(7) for n in range(11)} | {"plank/0.jpg": image(8)})
    main()
    (message,) = caplog.messages
    assert message.startswith("11 images count as copies of one another")


def test_a_source_without_any_image_is_an_error_that_shows_a_reason(project: Path) -> None:
    configure(project)
    lay_out(project / "source", {"tree/1.jpg": b"", "2.jpg": image(2)})
    with pytest.raises(DataError, match=r"no image .* 2 are rejected, such as '2.jpg' \(no class: lies in no class"):
        main()
    assert read_csv(Path("data/rejects.csv"))["path"].tolist() == ["2.jpg", "tree/1.jpg"]
    assert not Path("data/raw").exists()


def test_an_empty_source_is_an_error(project: Path) -> None:
    configure(project)
    (project / "source").mkdir()
    with pytest.raises(DataError, match=r"no image of data.source = 'source' is accepted"):
        main()


def test_a_single_class_is_an_error(project: Path) -> None:
    configure(project)
    lay_out(project / "source", {"tree/1.jpg": image(1), "tree/2.jpg": image(2)})
    with pytest.raises(DataError, match=r"has only the class 'tree'; expected two classes or more"):
        main()


@pytest.mark.parametrize("source", [".", "data", "data/raw/inner"])
def test_a_source_that_holds_the_output_is_an_error(project: Path, source: str) -> None:
    configure(project, source=source)
    lay_out(project / "data" / "raw" / "inner", {"tree/1.jpg": image(1), "plank/2.jpg": image(2)})
    with pytest.raises(DataError, match=f"data.source = '{source}' and the output data/raw overlap"):
        main()
    assert (project / "data" / "raw" / "inner" / "tree" / "1.jpg").exists()


# --- its processes, on a machine of three processors ---

THREE = "from stages.core import parallel; parallel.processors = lambda: 3"
STAGE = "from stages.core.errors import run; from stages.ingest import main; run(main)"


@contextmanager
def at_work(project: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Run the stage on many images; give it and its processes once the first image is through."""
    configure(project)
    data = {label: image(n) for n, label in enumerate(["tree", "plank"])}
    lay_out(project / "source", {f"{label}/{n}.jpg": data[label] for label in data for n in range(1500)})
    with subprocess.Popen(
        [sys.executable, "-c", f"{THREE}; {STAGE}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            while not any(project.glob("data/.raw.*.partial/.waiting/*")):
                assert process.poll() is None
                time.sleep(0.001)
            workers = children(process.pid)
            assert len(workers) == 3
            yield process, workers
        finally:
            process.kill()


def test_a_killed_process_is_one_line_and_leaves_nothing(project: Path) -> None:
    with at_work(project) as (process, workers):
        os.kill(workers[1], signal.SIGKILL)
        _, errors = process.communicate()
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("error: a process of ingest was killed by SIGKILL; expected a process that runs to the ")
    assert not any(map(alive, workers))
    assert not list((project / "data").iterdir())
    assert not (project / ".cache" / "source").exists()


def test_ctrl_c_ends_all_processes_and_leaves_nothing(project: Path) -> None:
    with at_work(project) as (process, workers):
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "")
    assert not any(map(alive, workers))
    assert not list((project / "data").iterdir())
    assert not (project / ".cache" / "source").exists()


def test_no_process_survives_a_kill_of_the_stage(project: Path) -> None:
    with at_work(project) as (process, workers):
        process.kill()
        assert process.wait() == -signal.SIGKILL
    await_end(workers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": ""}, "data.source = ''"),
        ({"min_pixels": 0}, "data.min_pixels = 0"),
        ({"min_pixels": 1.5}, "data.min_pixels = 1.5"),
        ({"max_megabytes": 0}, "data.max_megabytes = 0"),
        ({"max_megapixels": float("inf")}, "data.max_megapixels = inf"),
        ({"min_pixels": 2000}, "data.max_megapixels = 0.1; expected at least 4, a square of min_pixels"),
        ({"max_unpacked_gigabytes": 0}, "data.max_unpacked_gigabytes = 0"),
        ({"checksum": "sha256:12"}, "data.checksum = 'sha256:12'; expected null, sha256: and 64 hexadecimal digits"),
        ({"min_pixel": 3}, "unknown key 'data.min_pixel'; expected one of source, "),
        ({"exclude": "tree/1.jpg"}, "data.exclude = 'tree/1.jpg'; expected a list"),
        ({"near_duplicates": 65}, "data.near_duplicates = 65; expected at most 64"),
    ],
)
def test_bad_parameters_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GroupedUserError) as caught:
        parse(DataParams, VALUES | changes, "data")
    assert str(caught.value).startswith(message)


def test_an_intake_of_nothing_has_the_columns_of_a_manifest(tmp_path: Path) -> None:
    intake, _ = take_in(tmp_path, {"tree/1.jpg": b""})
    assert intake.manifest.columns[:2].tolist() == ["file", "path"]
    assert intake.manifest.empty
