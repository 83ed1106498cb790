"""Archives made by code, the hostile ones too: each member may have any name, kind and size."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
