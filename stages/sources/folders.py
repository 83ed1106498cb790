"""Folders of class folders: the label is the folder that holds the file, and splits may lie above the classes.

Where every image lies in a folder `images`, or of a name that says as little, the label is the folder above it.
"""

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from stages.core.decoding import starts_like_image
from stages.core.errors import one_line, require_machine, some
from stages.sources.disk_table import DiskTable, Files, Listing
from stages.sources.listing import SPLITS, File, Found, Reject, hidden_fault, label_fault, normalize_label

# Names, in lower case, of the one folder in each class folder that holds its images.
_INNER = {
    "images", "image", "imgs", "img", "pictures", "pics", "photos", "originals", "original", "frames", "rgb", "color",
    "colour", "raw", "data", "jpegimages", "jpegs", "jpeg", "jpgs", "jpg", "pngs", "png", "tif", "tiff", "webp", "bmp",
}  # fmt: skip
# Folders of one class that a warning names; of more it gives the number.
_NAMED = 3

log = logging.getLogger(__name__)


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
    inner = _inner(files, top, splits)
    found = DiskTable(Found)
    rejects: list[Reject] = []
    places: dict[str, set[str]] = {}
    for file in files:
        folders = _class_folders(file, top, inner)
        item = _labelled(file, folders, splits)
        if isinstance(item, Found):
            found.add(item)
            places.setdefault(item.label, set()).add(_place(folders, splits))
        else:
            rejects.append(item)
    _report_places(places)
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
        require_machine(error)
        yield Reject(one_line(f"{inside}/"), f"unreadable: {error.strerror}")
        return
    if is_empty:
        yield Reject(one_line(f"{inside}/"), "empty folder: nothing in it")


def _entry(entry: os.DirEntry[str], path: str) -> str | File | Reject:
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        require_machine(error)
        return Reject(one_line(path), f"unreadable: {error.strerror}")
    is_folder = stat.S_ISDIR(mode)
    shown = one_line(f"{path}/" if is_folder else path)
    if fault := hidden_fault(entry.name, is_folder=is_folder):
        return Reject(shown, fault)
    if is_folder:
        return Reject(shown, "link to a folder: not followed") if entry.is_symlink() else path
    if not stat.S_ISREG(mode):
        return Reject(shown, "not a file: a pipe, socket or device")
    return File(Path(entry.path), path)


def _class_folders(file: File, top: str, inner: Sequence[str]) -> list[str]:
    """Return the folders below `top` that a file lies in, down to its class; `inner` are the folders below that."""
    folders = file.path.removeprefix(top).split("/")[:-1]
    for name in inner:
        if folders[-1:] == [name]:
            folders.pop()
    return folders


def _inner(files: DiskTable[File], top: str, splits: Mapping[str, str]) -> list[str]:
    """Return the names of the folders that hold every image below its class folder, the deepest first; mostly none."""
    inner: list[str] = []
    while len(labels := _some_labels(files, top, splits, inner)) == 1 and labels[0].lower() in _INNER:
        inner += labels
    if len(labels) == 1 or SPLITS.keys() >= {label.lower() for label in labels}:
        return []
    if inner:
        log.warning("every image lies in a folder '%s': its class is the folder above", one_line("/".join(inner[::-1])))
    return inner


def _some_labels(files: DiskTable[File], top: str, splits: Mapping[str, str], inner: Sequence[str]) -> list[str]:
    """Return the names of two folders that hold images, or of all that there are, with `inner` left out of all paths.

    Two are enough to know, so that few files are opened.
    """
    labels: list[str] = []
    for file in files:
        folders = _class_folders(file, top, inner)
        if not folders or folders[-1] in labels or (len(folders) == 1 and folders[0] in splits):
            continue
        if _is_image(file.location):
            labels.append(folders[-1])
        if len(labels) > 1:
            break
    return labels


def _place(folders: Sequence[str], splits: Mapping[str, str]) -> str:
    """Return where a class folder lies, without the folder of its split."""
    return "/".join(folders[1:] if folders[0] in splits else folders)


def _report_places(places: Mapping[str, set[str]]) -> None:
    """Log the first class that lies in several folders: it may be a kind of file, with the classes above it."""
    label = min((label for label, folders in places.items() if len(folders) > 1), default="")
    if not label:
        return
    folders = sorted(map(one_line, places[label]))
    log.warning(
        "an image's class is the folder that holds it, so '%s' is one class, from %s: if the classes are the "
        "folders above, move the images there, or list them in a table labels.csv",
        label, some([f"'{folder}'" for folder in folders], _NAMED),
    )  # fmt: skip


def _labelled(file: File, folders: Sequence[str], splits: Mapping[str, str]) -> Found | Reject:
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
    """Return whether a file starts like an image; ingest decodes it completely later, at a limited cost."""
    try:
        with location.open("rb") as file:
            return starts_like_image(file.read(16))
    except OSError:
        return False
