"""Images without classes, from folders, archives, URLs and single files, in one list.

Each path starts with the source as given, but for passwords, so that sources do not mix. The kinds and limits are
those of `reading.py`.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp

from stages.core.addresses import redacted
from stages.core.errors import DataError, one_line, require_machine
from stages.sources.archives import is_archive, unpacked
from stages.sources.disk_table import DiskTable, Files
from stages.sources.folders import files_below
from stages.sources.listing import File, Reject
from stages.sources.members import Budget
from stages.sources.reading import local_path
from stages.sources.remote import UnansweredError, fetched

# How errors of sources name the source.
_KEY = "data.source = "
_EXPECTED = "an image, a folder or an archive of images"


def gather(sources: Iterable[str], budget: Budget, scratch: Path) -> Files:
    """Return the files and rejects of all `sources`; files fetched or unpacked for them are in `scratch`.

    Files are ordered by path, not by source. A source that cannot be read is a reject itself. Raises MachineError where
    this machine, not a source, is at fault.
    """
    files, rejects = DiskTable(File), list[Reject]()
    for source in sources:
        found, left_out = _read_or_reject(source, budget, scratch)
        for file in found:
            files.add(File(file.location, _inside(source, file.path)))
        rejects += [Reject(one_line(_inside(source, reject.path)), reject.reason) for reject in left_out]
    return files, rejects


def _read_or_reject(source: str, budget: Budget, scratch: Path) -> Files:
    """Return what `_read` does, or the source as a reject without a path in it."""
    own = Path(mkdtemp(dir=scratch))
    try:
        return _read(source, budget, own)
    except DataError as error:
        require_machine(error)
        # What a damaged archive had in it so far takes room.
        shutil.rmtree(own)
        # The source was named on the command line, not as data.source.
        said = one_line(redacted(error.received.replace(_KEY, "", 1)))
        again = "; try again later" if isinstance(error, UnansweredError) else ""
        return DiskTable(File), [Reject("", f"unreadable source: {said}{again}")]


def _read(source: str, budget: Budget, scratch: Path) -> Files:
    """Return the files of a source by their paths in it; a single image's path is empty."""
    place = local_path(source, _EXPECTED) or fetched(source, scratch, budget)
    if not isinstance(place, Path):
        return place
    if place.is_dir():
        return files_below(place)
    if is_archive(place):
        return unpacked(place, source, Path(mkdtemp(dir=scratch)), budget)
    single = DiskTable(File)
    single.add(File(place, ""))
    return single, []


def _inside(source: str, path: str) -> str:
    source = redacted(source)
    return f"{source.rstrip('/')}/{path}" if path else source
