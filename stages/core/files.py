"""Writing files completely or not at all, and with the same bytes every time.

A stage killed while it writes leaves a temporary file behind, never half a file under the name that others read; the
next one that writes this file removes it. Equal content gives equal bytes: keys are sorted, floats have one format, and
archives carry no dates; otherwise DVC would rerun all that reads them.
"""

import glob
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

# Half of the start of a stage that reads no table, such as check, which is asked again and again.
if TYPE_CHECKING:
    import pandas as pd

FLOAT_FORMAT = "%.9g"
# Rows of a long table in memory at a time.
CHUNK_ROWS = 4096
# What spreadsheets take for the beginning of a formula (https://owasp.org/www-community/attacks/CSV_Injection; no cell
# holds its control characters), and the apostrophe that is put before it: names are other people's text.
_FORMULA = ("=", "+", "-", "@", "'")
# The earliest date that a zip archive can hold.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a temporary path beside `path`; on success it becomes `path`, on failure it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    for left in _partial(path):
        if not _is_written(left):
            remove(left)
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, or a file, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Provide an empty temporary folder that becomes `path` when the block succeeds.

    Removes what killed processes left half-written, even where their number has gone to another process: `path` is the
    output of one stage, which DVC never runs twice at once.
    """
    for left in _partial(path):
        remove(left)
    with replacing(path) as temporary:
        temporary.mkdir(parents=True)
        yield temporary


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; lines end in a line feed on every system."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as JSON with sorted keys. Floats keep nine digits; NaN and infinity become null."""
    text = json.dumps(_plain(value), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping that `write_json` wrote."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write `table` as CSV without its index. Floats keep nine digits."""
    write_csv_chunks(path, [table])


def write_csv_chunks(path: Path, chunks: Iterable["pd.DataFrame"]) -> None:
    """Write the rows of `chunks`, one at least, as `write_csv` would write them in one table."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for number, chunk in enumerate(chunks):
            _with_text(chunk, inert).to_csv(
                file, header=not number, index=False, float_format=FLOAT_FORMAT, lineterminator="\n"
            )


def read_csv(
    path: Path, text: tuple[str, ...] = (), categories: tuple[str, ...] = (), columns: tuple[str, ...] | None = None
) -> "pd.DataFrame":
    """Return a table that `write_csv` wrote; the columns named in `text` stay text ('NA', '001').

    So do those in `categories`, columns of few distinct values: they take a byte or two per row. With `columns` only
    these are read.
    """
    import pandas as pd

    types: Mapping[Any, str] = dict.fromkeys(text, "str") | dict.fromkeys(categories, "category")
    return _with_text(pd.read_csv(path, dtype=types, keep_default_na=False, usecols=columns), _active)


def read_csv_chunks(path: Path, columns: tuple[str, ...]) -> Iterator["pd.DataFrame"]:
    """Yield `columns` of a table, all as text, `CHUNK_ROWS` rows at a time; the index continues from chunk to chunk."""
    import pandas as pd

    with pd.read_csv(path, dtype=str, keep_default_na=False, usecols=columns, chunksize=CHUNK_ROWS) as chunks:
        for chunk in chunks:
            yield _with_text(chunk, _active)


def inert(cell: str) -> str:
    """Return a cell of CSV that no spreadsheet takes for a formula; numbers, which are none, stay as they are."""
    return f"'{cell}" if cell.startswith(_FORMULA) and not _is_number(cell) else cell


def _active(cell: str) -> str:
    """Return what `inert` was given."""
    return cell.removeprefix("'")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _with_text(table: "pd.DataFrame", change: Callable[[str], str]) -> "pd.DataFrame":
    """Return `table` with `change` applied to its text; itself where there is nothing to change."""
    import pandas as pd

    changed: dict[str, Any] = {}
    for name, column in table.items():
        is_category = isinstance(column.dtype, pd.CategoricalDtype)
        if not is_category and column.dtype != object:
            continue
        old = list(column.cat.categories if is_category else column)
        new = [change(value) if isinstance(value, str) else value for value in old]
        # Text that stays is the same object.
        if any(one is not other for one, other in zip(old, new, strict=True)):
            changed[str(name)] = (
                column.cat.rename_categories(new) if is_category else pd.Series(new, column.index, object)
            )
    return table.assign(**changed) if changed else table


def to_bytes_array(names: Iterable[str]) -> NDArray[np.bytes_]:
    """Return `names` as UTF-8 in one array of fixed width: many short names take a third of the memory of a list."""
    return np.array([name.encode() for name in names], dtype=np.bytes_)


def strip_dates(archive: Path) -> None:
    """Rewrite a zip archive, such as `.keras`, without dates and memory addresses: equal content, equal bytes."""
    with replacing(archive) as temporary, zipfile.ZipFile(archive) as old, zipfile.ZipFile(temporary, "w") as new:
        for name in sorted(old.namelist()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = old.getinfo(name).compress_type
            # Large members need another header, which has changed between Pythons 3.11.2 and 3.11.7: others have none.
            info.file_size = old.getinfo(name).file_size
            with old.open(name) as source, new.open(info, "w") as target:
                if name == "metadata.json":
                    target.write(_without_date(source.read()))
                elif name == "config.json":
                    target.write(_without_addresses(source.read()))
                else:
                    shutil.copyfileobj(source, target, 1 << 20)


@contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """Provide an empty folder for temporary files, inside the project and ignored by git; remove it afterwards.

    Files that cannot be removed are cleared by the next run: that error must not hide why this one failed.
    """
    folder = Path(".cache") / name
    remove(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _partial(path: Path) -> Iterator[Path]:
    """Yield what processes have written of `path` so far, or left."""
    return (
        left
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial")
        if left.name.removeprefix(f".{path.name}.").removesuffix(".partial").isdecimal()
    )


def _is_written(partial: Path) -> bool:
    """Return whether another process is writing a temporary file: the number in its name is that of one that runs."""
    number = int(partial.name.split(".")[-2])
    # In a container, a process killed earlier may have had the number of this one.
    if number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _without_date(metadata: bytes) -> bytes:
    """Drop the date from a `.keras` file's metadata (`keras.saving` writes `date_saved` there)."""
    value = json.loads(metadata)
    value.pop("date_saved", None)
    return json.dumps(value, sort_keys=True).encode()


def _without_addresses(config: bytes) -> bytes:
    """Assign numbers to the shared objects in a `.keras` file's config in order: Keras writes memory addresses.

    Source: `record_object_after_serialization` in keras/src/saving/serialization_lib.py, Keras 3.15.
    """
    numbers: dict[bytes, bytes] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+', lambda found: numbers.setdefault(found[0], b"%d" % len(numbers)), config
    )


def _plain(value: Any) -> Any:
    """Return `value` as JSON's own types, NumPy's scalars among them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(FLOAT_FORMAT % value) if np.isfinite(value) else None
    return value
