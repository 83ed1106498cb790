"""Archives made by code, the hostile ones too: each member may have any name, kind and size."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.sources.archives import unpacked
from stages.sources.members import Budget


def zipped(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip archive of `files` by name; a name that ends in '/' is a folder."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zip_info(name, method), data)
    return path


def zip_info(name: str, method: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> zipfile.ZipInfo:
    """Return a member of any name; `mode` is what Unix keeps of a file's kind and rights."""
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    info.compress_type = method
    info.external_attr = mode << 16
    return info


def without_encoding(path: Path, names: Mapping[str, bytes], extra: Mapping[str, bytes] | None = None) -> Path:
    """Write a zip archive of one byte each under raw names, none of which says how it is encoded.

    `names` are the raw names by those that stand for them meanwhile, in ASCII and as long; `extra` their extra fields.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = zip_info(name)
            info.extra = (extra or {}).get(name, b"")
            archive.writestr(info, b"x")
    data = path.read_bytes()
    for name, raw in names.items():
        assert len(raw) == len(name)
        data = data.replace(name.encode(), raw)
    path.write_bytes(data)
    return path


def tarred(path: Path, files: Mapping[str, bytes], mode: str = "w:gz", *extra: tarfile.TarInfo) -> Path:
    """Write a tar archive of `files` by name, then the members `extra`, which have no content."""
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            archive.addfile(tar_info(name, size=len(data)), io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return path


def tar_info(name: str, **about: Any) -> tarfile.TarInfo:
    """Return a member of any name; `about` are attributes such as its type."""
    info = tarfile.TarInfo(name)
    for key, value in about.items():
        setattr(info, key, value)
    return info


def unpack(archive: Path, file: float = 1e7, total: float = 1e8) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the contents of the members by their paths, and the reasons of those left out."""
    folder = archive.parent / "scratch"
    folder.mkdir()
    files, rejects = unpacked(archive, archive.name, folder, Budget(file, total))
    assert sorted(path.name for path in folder.iterdir()) == sorted(str(number) for number in range(len(files)))
    return {item.path: item.location.read_bytes() for item in files}, {item.path: item.reason for item in rejects}
