"""Zip and tar archives: recognised by content, unpacked under numbers into a scratch folder, or not at all.

No archive is trusted: the names, kinds and sizes of its members are checked before a byte is unpacked, and
both readers stop a member at the size that was checked.
"""

import logging
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from stages.core.addresses import redacted
from stages.core.cost import ExceededError, limited_memory
from stages.core.errors import DataError, UserError, one_line
from stages.sources.disk_table import DiskTable, Files
from stages.sources.encodings import ANSI_PAGES, OEM_PAGES, encoding_of, is_escaped
from stages.sources.listing import File
from stages.sources.members import Budget, MemberFilter

_CHUNK = 1 << 20
# More members than any folder of images has: each costs memory, and empty ones compress to almost nothing.
_MAX_MEMBERS = 2_000_000
# The first bytes of a zip archive, whole or truncated, or once of several parts (APPNOTE 6.3.10, 4.3.7, 4.3.16, 8.5.3).
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"PK00")
# The first bytes of a program of Windows: it may be a zip archive that unpacks itself.
_PROGRAM = b"MZ"
# tarfile's mode for a file that starts with these bytes.
_COMPRESSED = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\x00": "r:xz"}
# Bits of a zip member's flags that say it is encrypted (APPNOTE 6.3.10, 4.4.4: bits 0, 6 and 13).
_ENCRYPTED = 0x2041
# Bit of a zip member's flags that says that its name is UTF-8, and the extra field that holds its name in UTF-8
# otherwise (APPNOTE 6.3.10, 4.4.4 and 4.6.9).
_UTF8, _UNICODE_PATH = 0x800, 0x7075
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# Headers of a tar archive that describe the next one. tarfile reads their content into memory, of any size.
_DESCRIBING = (tarfile.XHDTYPE, tarfile.XGLTYPE, b"X", tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_LONGEST_DESCRIPTION = 1 << 20
# Tar archives are padded with zeros: to a multiple of 10240 bytes, or a little more.
_LONGEST_PADDING = 1 << 24

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of an archive: why its kind cannot be unpacked, if so, and how to read it."""

    name: str
    size: int
    is_folder: bool
    fault: str
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive, whole or damaged."""
    if _is_zip(path) or _head(path).startswith(tuple(_COMPRESSED)):
        return True
    try:
        tarfile.open(path, "r:", tarinfo=_Header).close()
    except Exception:  # noqa: BLE001 (tarfile raises nearly anything for other files)
        return False
    return True


def unpacked(archive: Path, source: str, folder: Path, budget: Budget) -> Files:
    """Unpack `archive` into `folder` under numbers; return its files by their own names, and the rejects.

    Raises DataError when the archive is damaged or exceeds the budget.
    """
    try:
        # Some decompressors take as much memory as the archive says, and zipfile holds the list of all members.
        with limited_memory(budget.unpacking.memory):
            return _unpacked(archive, source, folder, budget)
    except (UserError, MemoryError):
        raise
    except ExceededError as error:
        key, value = "data.max_unpack_memory_gigabytes", f"{budget.unpacking.memory / 1e9:g}"
        raise _excessive(
            f"data.source = '{source}' takes more than {value} GB of memory to unpack", key, value
        ) from error
    except Exception as error:  # A damaged archive makes its readers raise nearly anything.
        if isinstance(error, OSError) and error.errno:
            raise DataError(
                f"data.source = '{source}' cannot be unpacked ({error.strerror})",
                "a readable archive, and room for its content",
                "make room in .cache, or correct the permissions of the file",
            ) from error
        raise DataError(
            f"data.source = '{source}' is a damaged archive ({error or type(error).__name__})",
            "a whole zip or tar archive",
            "fetch it or pack it again",
        ) from error


def _unpacked(archive: Path, source: str, folder: Path, budget: Budget) -> Files:
    member_filter = MemberFilter(budget)
    number, start = 0, time.process_time()
    members = _zip_members if _is_zip(archive) else _tar_members
    with tqdm(desc="unpack", unit="B", unit_scale=True, disable=None) as bar:
        for member in members(archive, source, budget):
            _require_quick(start, source, budget)
            if member.is_folder:
                member_filter.folder(member.name)
            elif member_filter.takes(member.name, member.size, location := folder / str(number), member.fault):
                number += 1
                with member.open() as stream, location.open("xb") as file:
                    while chunk := stream.read(_CHUNK):
                        file.write(chunk)
                        bar.update(len(chunk))
                        _require_quick(start, source, budget)
    return _readable(member_filter.files, source), member_filter.rejects()


def _readable(files: DiskTable[File], source: str) -> DiskTable[File]:
    """Return the files of a tar archive, those with names in another encoding than UTF-8 under readable ones."""
    raw = {file.path.encode(errors="surrogateescape") for file in files if is_escaped(file.path)}
    if not raw:
        return files
    encoding = _encoding(raw, source, ANSI_PAGES)
    renamed = DiskTable(File)
    for file in files:
        name = file.path.encode(errors="surrogateescape").decode(encoding) if is_escaped(file.path) else file.path
        renamed.add(File(file.location, name))
    return renamed


def _is_zip(path: Path) -> bool:
    """Return whether a file is a zip archive, not an image or another file that only ends in one."""
    head = _head(path)
    return head.startswith(_ZIP) or (head.startswith(_PROGRAM) and zipfile.is_zipfile(path))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def _zip_members(archive: Path, source: str, budget: Budget) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        _require_few(len(members), source)
        if sum(info.compress_size for info in members) > archive.stat().st_size:
            raise zipfile.BadZipFile("its members overlap, so that it holds more than its size allows")
        _require_small(sum(info.file_size for info in members if info.file_size <= budget.file), source, budget)
        for info, name in zip(members, _zip_names(members, source), strict=True):
            is_folder = name.endswith(("/", "\\"))
            yield _Member(name, info.file_size, is_folder, _zip_fault(info), partial(opened.open, info))


def _zip_names(members: Iterable[zipfile.ZipInfo], source: str) -> list[str]:
    """Return the members' names: of those that do not say how they are encoded, many are UTF-8 (the Finder's)."""
    names = [_zip_name(info) for info in members]
    encoding = _encoding({name for name in names if isinstance(name, bytes)}, source, OEM_PAGES)
    return [name.decode(encoding) if isinstance(name, bytes) else name for name in names]


def _zip_name(info: zipfile.ZipInfo) -> str | bytes:
    """Return a member's name, as bytes if it does not say how it is encoded."""
    # The name as stored in the archive: zipfile truncates `filename` at a NUL, and decodes by cp437 what is not UTF-8.
    if info.flag_bits & _UTF8 or info.orig_filename.isascii():
        return info.orig_filename
    raw = info.orig_filename.encode("cp437")
    return _unicode_path(info.extra, raw) or raw


def _encoding(names: Collection[bytes], source: str, pages: Sequence[str]) -> str:
    """Return the encoding of all `names`, paths of members; log it if it is a guess."""
    encoding = encoding_of({part for name in names for part in name.split(b"/")}, pages)
    if encoding != "utf-8":
        log.warning(
            "'%s' does not say how its names are encoded: '%s' is read as %s; if that is wrong, pack it again as UTF-8",
            redacted(source), one_line(min(names).decode(encoding)), encoding,
        )  # fmt: skip
    return encoding


def _unicode_path(extra: bytes, raw: bytes) -> str:
    """Return a name from the extra fields of a zip member if it is that of its name `raw`, or an empty string."""
    start = 0
    while start + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, start)
        field = extra[start + 4 : start + 4 + size]
        if kind == _UNICODE_PATH and field[:5] == struct.pack("<BI", 1, zlib.crc32(raw)):
            return field[5:].decode()
        start += 4 + size
    return ""


def _zip_fault(info: zipfile.ZipInfo) -> str:
    # Zip programs for Unix store a file's mode in the upper half.
    fault = _kind_fault(info.external_attr >> 16)
    if not fault and info.flag_bits & _ENCRYPTED:
        fault = "encrypted: needs a password"
    if not fault and info.compress_type not in _METHODS:
        fault = f"compression: method {info.compress_type} cannot be read, only stored, deflate, bzip2 and LZMA"
    return fault


def _kind_fault(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "link: not followed"
    known = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
    return "" if known else "not a file: a pipe, socket or device"


def _tar_members(archive: Path, source: str, budget: Budget) -> Iterator[_Member]:
    head = _head(archive)
    mode: Any = next((mode for magic, mode in _COMPRESSED.items() if head.startswith(magic)), "r:")
    with tarfile.open(archive, mode, tarinfo=_Header, encoding="utf-8") as opened:
        number, passed = 0, 0
        while info := opened.next():
            # tarfile would keep them all.
            opened.members.clear()  # type: ignore[attr-defined] # Typeshed does not know it.
            number += 1
            # Skipped members have to be decompressed as well to reach the next one.
            passed += info.size
            _require_few(number, source)
            _require_small(passed, source, budget)
            yield _Member(info.name, info.size, info.isdir(), _tar_fault(info), partial(_content, opened, info))
        _require_end(opened)


def _tar_fault(info: tarfile.TarInfo) -> str:
    if info.islnk() or info.issym():
        return "link: not followed"
    return "" if info.isreg() or info.isdir() else "not a file: a pipe, socket or device"


def _content(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = opened.extractfile(info)
    # It is None for links and folders, which are never opened.
    assert content is not None
    return content


class _Header(tarfile.TarInfo):
    """A complete and harmless header. tarfile itself mistakes a broken one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, opened: tarfile.TarFile) -> "_Header":
        try:
            header = super().fromtarfile(opened)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # Typeshed knows its base alone.
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        # With a negative size tarfile would read this header forever.
        if header.size < 0 or opened.offset <= header.offset:
            raise tarfile.ReadError("negative size")
        return header

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        if header.type in _DESCRIBING and not 0 <= header.size <= _LONGEST_DESCRIPTION:
            raise tarfile.ReadError("a name or description of more than 1 MB")
        return header


def _require_end(opened: tarfile.TarFile) -> None:
    """Read a tar archive to its end, so that the checksum of its compression is verified."""
    assert opened.fileobj is not None
    padding = opened.fileobj.read(_LONGEST_PADDING + 1)
    if len(padding) > _LONGEST_PADDING or any(padding):
        raise tarfile.ReadError("there is data after its end")


def _require_few(number: int, source: str) -> None:
    if number > _MAX_MEMBERS:
        raise DataError(
            f"data.source = '{source}' has more than {_MAX_MEMBERS} members",
            "fewer",
            "divide it, or unpack it yourself",
        )


def _require_small(size: int, source: str, budget: Budget) -> None:
    """Raise DataError when the members of an archive exceed the budget."""
    if size > budget.total:
        raise over_budget(f"data.source = '{source}' unpacks to {size / 1e9:.3g} GB or more", budget)


def _require_quick(start: float, source: str, budget: Budget) -> None:
    """Raise DataError when unpacking since `start` has taken too much processor time, seconds."""
    if time.process_time() - start > budget.unpacking.seconds:
        key, value = "data.max_unpack_minutes", f"{budget.unpacking.seconds / 60:g}"
        raise _excessive(f"data.source = '{source}' takes more than {value} minutes to unpack", key, value)


def over_budget(received: str, budget: Budget) -> DataError:
    """Return the error for a source that exceeds the budget."""
    return _excessive(received, "data.max_unpacked_gigabytes", f"{budget.total / 1e9:g}")


def _excessive(received: str, key: str, value: str) -> DataError:
    return DataError(received, f"at most {key} = {value}", f"raise {key} if that is what you expect of it")
