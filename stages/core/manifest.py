"""Exported classifiers: what a folder of data/exports holds, and whether it is complete. Imports no TensorFlow.

`manifest.json` has the SHA-256 of each file and is written last: a folder without one is unfinished. A file that was
truncated or altered since is rejected before anything reads it.

Every form takes raw RGB images (n, size, size, 3), 0 to 255, resized to a square as `fit` says, and returns
`probabilities` (n, classes), float32.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from stages.core.errors import UserError, one_line
from stages.core.files import write_json
from stages.core.params import Section
from stages.core.settings.export import Format

MANIFEST = "manifest.json"
# The file of each form, or the folder of one that has several files.
PATHS = {
    "keras": "model.keras",
    "saved_model": "saved_model",
    "onnx": "model.onnx",
    "openvino": "openvino/model.xml",
    "litert": "model.tflite",
    "litert_int8": "model_int8.tflite",
}
# Names of the forms' input and outputs; only the OpenVINO form has the embedding.
IMAGES, PROBABILITIES, EMBEDDING = "images", "probabilities", "embedding"


Checksums = dict[str, Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]]


class ExportError(UserError):
    """An exported classifier that cannot be used."""

    kind = "export"


class Form(Section):
    """One form of the classifier: its path in the folder, and the checksum of each of its files by path."""

    path: str
    files: Checksums = Field(min_length=1)


class Manifest(Section):
    """The content of `manifest.json`. `classes` has the order of the probabilities, `weights` is from provenance.json.

    `costs` has the order of the classes. `comparison` and `reference` are the checksums of the files of these names, if
    present.
    """

    backbone: str
    classes: tuple[str, ...] = Field(min_length=2)
    input_size: int = Field(ge=1)
    fit: Literal["stretch", "crop", "pad"]
    temperature: float = Field(gt=0)
    weights: dict[str, Any]
    output: Literal["probabilities"]
    # Where the class of least expected cost is decided for: what it costs by actual and by decided class.
    costs: tuple[tuple[float, ...], ...] | None = None
    formats: dict[Format, Form]
    comparison: Checksums | None = None
    reference: Checksums | None = None

    @model_validator(mode="after")
    def _square(self) -> "Manifest":
        if self.costs is not None and {len(self.costs), *map(len, self.costs)} != {len(self.classes)}:
            raise ValueError("costs of other classes")
        return self


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, which marks the folder as finished."""
    write_json(folder / MANIFEST, manifest.model_dump(exclude_none=True))


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of an export. Raise ExportError when it is missing or damaged."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise ExportError(
            f"'{folder / MANIFEST}' cannot be read ({error.strerror})",
            "the folder of an exported classifier, such as data/exports/winner",
            "run 'dvc repro export', or name another folder",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ExportError(
            f"'{folder / MANIFEST}' is damaged ({f'{where}: ' if where else ''}{first['msg']})",
            "the manifest as stage export wrote it",
            _restore(folder),
        ) from error


def checksums(folder: Path, path: str) -> Checksums:
    """Return the checksum of each file at or below `path`, by its path in the folder, OpenVINO's weights included."""
    found = folder / path
    below = sorted(file for file in found.rglob("*") if file.is_file()) if found.is_dir() else [found]
    if found.suffix == ".xml":
        below.append(found.with_suffix(".bin"))
    return {file.relative_to(folder).as_posix(): checksum(file) for file in below}


def checksum(path: Path) -> str:
    """Return a file's checksum in the format of the manifest."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def verify(folder: Path, expected: Checksums) -> None:
    """Raise ExportError unless each file matches its checksum."""
    for name, digest in expected.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise _damaged(folder, name, "lies outside of the export")
        try:
            found = checksum(path)
        except OSError as error:
            raise _damaged(folder, name, f"cannot be read ({error.strerror})") from error
        if found != digest:
            raise _damaged(folder, name, f"was truncated or altered: its checksum is {found}", digest)


def open_export(folder: Path, form: Format = "openvino") -> tuple[Manifest, Path]:
    """Return the manifest and the path of a form whose files all match their checksums.

    Raises ExportError when the folder is no export, the form was not exported, or a file is truncated, altered or
    missing.
    """
    manifest = read_manifest(folder)
    if form not in manifest.formats:
        raise ExportError(
            f"'{folder}' without form '{form}'",
            f"one of {', '.join(manifest.formats) or 'none'}",
            f"add '{form}' to export.formats and run 'dvc repro export'",
        )
    found = manifest.formats[form]
    verify(folder, found.files)
    if found.path != PATHS[form] or not _covered(found):
        raise ExportError(
            f"'{folder / MANIFEST}' names '{one_line(found.path)}' as '{form}'",
            f"'{PATHS[form]}', with a checksum",
            _restore(folder),
        )
    return manifest, folder / found.path


def open_reference(folder: Path) -> Path:
    """Return the file that drift is measured against. Raise ExportError when it is missing or was altered."""
    expected = read_manifest(folder).reference
    if not expected:
        raise ExportError(f"'{folder}' without a reference", "reference.json", "export again with 'dvc repro export'")
    verify(folder, expected)
    return folder / next(iter(expected))


def _covered(form: Form) -> bool:
    """Return whether the form's own file has a checksum and, for an OpenVINO model, its weights do too."""
    weights = [str(Path(form.path).with_suffix(".bin"))] if form.path.endswith(".xml") else []
    first = any(Path(name).is_relative_to(form.path) for name in form.files)
    return first and all(name in form.files for name in weights)


def _damaged(
    folder: Path, name: str, received: str, expected: str = "the file as stage export wrote it"
) -> ExportError:
    return ExportError(f"'{folder / name}' {received}", expected, _restore(folder))


def _restore(folder: Path) -> str:
    return f"run 'dvc checkout --force {folder}', or fetch the export again"
