"""Folders of class folders: the label is the folder that holds the file, and splits may lie above the classes."""

import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from stages.core.errors import one_line
from stages.sources.disk_table import DiskTable, Files, Listing
from stages.sources.listing import SPLITS, File, Found, Reject, label_fault, normalize_label


def read_folder(root: Path) -> Listing:
    """Return the files below `root` with the folder that holds them as their label."""
    files, left_out = files_below(root)
    found, unlabelled = labelled(files)
    return found, left_out + unlabelled


def files_below(root: Path) -> Files:
    """Return all files below `root`.

    Hidden names are left out, and links to folders, which may form loops.
    """
    files = DiskTable(File)
    rejects: list[Reject] = []
    folders = [""]
    while folders:
        for item in _entries(root, folders.pop()):
            if isinstance(item, str):
                folders.append(item)
            elif isinstance(item, File):
                files.add(item)
            else:
                rejects.append(item)
    return files, rejects


def labelled(files: DiskTable[File], top: str = "") -> Listing:
    """Return each file with the label of the folder that holds it; its split is the first folder below `top`."""
    splits = _splits(files, top)
    found = DiskTable(Found)
    rejects: list[Reject] = []
    for file in files:
        item = _labelled(file, file.path.removeprefix(top).split("/")[:-1], splits)
        if isinstance(item, Found):
            found.add(item)
        else:
            rejects.append(item)
    return found, rejects


def _entries(root: Path, inside: str) -> Iterator[str | File | Reject]:
    """Yield the entries of the folder `inside`: folders as their paths, files, rejects."""
    is_empty = True
    try:
        with os.scandir(root / inside) as entries:
            for entry in entries:
                is_empty = False
                yield _entry(entry, f"{inside}/{entry.name}" if inside else entry.name)
    except OSError as error:
        yield Reject(one_line(f"{inside}/"), f"unreadable: {error.strerror}")
        return
    if is_empty:
        yield Reject(one_line(f"{inside}/"), "empty folder: nothing in it")


def _entry(entry: os.DirEntry[str], path: str) -> str | File | Reject:
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        return Reject(one_line(path), f"unreadable: {error.strerror}")
    is_folder = stat.S_ISDIR(mode)
    shown = one_line(f"{path}/" if is_folder else path)
    if entry.name.startswith("."):
        return Reject(shown, "hidden: the name begins with a dot")
    if is_folder:
        return Reject(shown, "link to a folder: not followed") if entry.is_symlink() else path
    if not stat.S_ISREG(mode):
        return Reject(shown, "not a file: a pipe, socket or device")
    return File(Path(entry.path), path)


def _labelled(file: File, folders: list[str], splits: dict[str, str]) -> Found | Reject:
    """Return a file in `folders` with its label and split, or the reason why it has no label."""
    shown = one_line(file.path)
    if not folders:
        return Reject(shown, "no class: lies in no class folder")
    split = splits.get(folders[0], "")
    if split and len(folders) == 1:
        return Reject(shown, "no class: lies in the folder of a split, but in no class folder")
    label = normalize_label(folders[-1])
    fault = label_fault(label)
    return Reject(shown, fault) if fault else Found(file.location, shown, label, split)


def _splits(files: Iterable[File], top: str) -> dict[str, str]:
    """Return the split of each folder below `top`; none unless two or more splits hold all images.

    A class may also be called `test`: beside other classes, or alone, such a name means nothing.
    """
    folders = {folder for file in files if (folder := _first_folder(file, top))}
    splits = {folder: SPLITS[folder.lower()] for folder in folders if folder.lower() in SPLITS}
    if len(set(splits.values())) < 2:  # noqa: PLR2004
        return {}
    others = (file for file in files if (folder := _first_folder(file, top)) and folder not in splits)
    return {} if any(_is_image(file.location) for file in others) else splits


def _first_folder(file: File, top: str) -> str:
    """Return the folder below `top` that a file lies in, or an empty string for a file in `top` itself."""
    folder, slash, _ = file.path.removeprefix(top).partition("/")
    return folder if slash else ""


def _is_image(location: Path) -> bool:
    """Return whether a file starts like an image; ingest decodes it completely later."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(location):
            return True
    except Exception:  # noqa: BLE001 (broken files make Pillow raise nearly anything)
        return False
