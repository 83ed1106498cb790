"""URLs: anything that fsspec opens (https, s3, gs, ...), fetched under numbers into a scratch folder.

A URL is fetched whenever ingest runs: DVC tracks it, and runs ingest when it has changed.
"""

import logging
import math
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from tqdm import tqdm

from stages.core.addresses import redacted, redirect_fault
from stages.core.errors import DataError, UserError
from stages.sources.archives import over_budget
from stages.sources.disk_table import Files
from stages.sources.members import Budget, MemberFilter

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# The extra of pyproject.toml that reads each protocol.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
# Give up on a server that does not accept the connection, or sends nothing, for this many seconds.
_CONNECT_SECONDS = 30
_SILENT_SECONDS = 120
# Seconds before each further try, if the server did not answer or reported a fault of its own.
_PAUSES = (1.0, 3.0)
# From this status on a fault is the server's (RFC 9110, 15.6).
_SERVER_FAULT = 500
# What to do about it, and about any other fault.
_AGAIN, _CHECK = "try again later", "check the URL, the network and access rights, and run again"
# Files of a folder that are requested together.
_BATCH = 64

log = logging.getLogger(__name__)


class UnansweredError(DataError):
    """A server that does not answer in time, or reports a fault of its own: a later try may succeed."""


def fetched(url: str, folder: Path, budget: Budget) -> Path | Files:
    """Fetch `url` into `folder`: one file, or all files of a folder by their own paths.

    A server that does not answer, or reports a fault of its own, is asked again. Raises DataError when the URL cannot
    be fetched completely.
    """
    deadline = time.monotonic() + budget.seconds
    for pause in _PAUSES:
        try:
            return _fetched_once(url, folder, budget, deadline)
        except UnansweredError:
            log.info("%s: no answer, or a fault of the server: asking again", redacted(url))
            time.sleep(pause)
    return _fetched_once(url, folder, budget, deadline)


def _fetched_once(url: str, folder: Path, budget: Budget, deadline: float) -> Path | Files:
    try:
        system, path = _opened(url, budget)
        # To a web server every URL is a file: asking whether it is a folder would fetch it.
        if not _is_web(url) and system.isdir(path):
            return _folder(system, path, url, folder, budget, deadline)
        return _file(system, path, url, folder / "fetched", budget, deadline)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"data.source = '{url}' does not exist", "a file or folder", "correct the URL") from error
    except Exception as error:  # Every protocol has errors of its own.
        _require_time(url, budget, deadline)
        passing = _is_web(url) and _may_pass(error)
        raise (UnansweredError if passing else DataError)(
            f"data.source = '{url}' cannot be fetched ({type(error).__name__}: {error})",
            "a complete response",
            f"{_AGAIN if passing else _CHECK}; nothing was kept",
        ) from error


def _may_pass(error: Exception) -> bool:
    """Return whether what a web server did is a fault of the moment (RFC 9110, 15.6), or silence."""
    return isinstance(error, TimeoutError) or getattr(error, "status", 0) >= _SERVER_FAULT


def _require_time(url: str, budget: Budget, deadline: float) -> None:
    """Raise DataError when the time to fetch `url` is over: a server may send a byte now and then for ever."""
    if time.monotonic() >= deadline:
        raise DataError(
            f"data.source = '{url}' is not fetched after {budget.seconds / 60:g} minutes",
            f"at most data.max_fetch_minutes = {budget.seconds / 60:g}",
            "fetch it yourself, or raise data.max_fetch_minutes if the server is that slow",
        )


def _opened(url: str, budget: Budget) -> tuple["AbstractFileSystem", str]:
    """Return the file system of `url`, and the path in it."""
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    if "::" in url:
        raise DataError(
            f"data.source = '{url}' is a chain of file systems",
            "one URL",
            "name the archive itself: it is unpacked",
        )
    try:
        opened: tuple[AbstractFileSystem, str] = url_to_fs(url, **(_web_options(url, budget) if _is_web(url) else {}))
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        raise DataError(
            f"data.source = '{url}' needs a package that is not installed ({error})",
            f"the package that reads {protocol}://",
            f"uv sync --inexact --extra {extra}" if extra else "install it, or fetch the images yourself",
        ) from error
    except ValueError as error:
        raise DataError(
            f"data.source = '{url}' cannot be opened ({error})",
            "a URL such as https://host/images.zip or s3://bucket/folder, or a local path",
            "correct the URL",
        ) from error
    return opened


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _web_options(url: str, budget: Budget) -> dict[str, Any]:
    """Return the options for a web server: by default aiohttp gives up on any download after five minutes."""
    import aiohttp

    # Without a limit the total is None.
    total = budget.seconds if math.isfinite(budget.seconds) else None
    timeout = aiohttp.ClientTimeout(total=total, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
    redirects = aiohttp.TraceConfig()
    redirects.on_request_redirect.append(partial(_require_outside, url))
    # The stored file, not compressed for the transfer: its checksum may be known.
    headers = {"Accept-Encoding": "identity"}
    options = {"timeout": timeout, "trust_env": True, "auto_decompress": False, "headers": headers}
    return {"client_kwargs": options | {"trace_configs": [redirects]}, "skip_instance_cache": True}


async def _require_outside(source: str, _session: object, _context: object, redirect: Any) -> None:
    """Raise DataError when a redirect leads into the network of this machine from outside."""
    # aiohttp follows either.
    headers = redirect.response.headers
    target = urljoin(str(redirect.url), headers.get("Location") or headers.get("URI", ""))
    if fault := redirect_fault(source, target):
        raise DataError(
            f"data.source = '{source}' is {fault}", "a redirect to a public address", "name that URL if you trust it"
        )


def _file(system: "AbstractFileSystem", path: str, url: str, target: Path, budget: Budget, deadline: float) -> Path:
    """Stream one file into `target`, and stop when it exceeds the budget."""
    from fsspec.callbacks import Callback

    with tqdm(desc="fetch", unit="B", unit_scale=True, disable=None) as bar:

        def progress(size: int | None, value: int) -> None:
            bar.total = size
            bar.update(value - bar.n)
            _require_time(url, budget, deadline)
            if value > budget.total:
                raise over_budget(f"data.source = '{url}' sends {value / 1e9:.3g} GB or more", budget)

        system.get_file(path, str(target), callback=Callback(hooks={"progress": progress}))
    return target


def _folder(system: "AbstractFileSystem", path: str, url: str, folder: Path, budget: Budget, deadline: float) -> Files:
    """Fetch all files below `path`. Their names are checked like those of an archive's members."""
    member_filter = MemberFilter(budget)
    wanted: list[str] = []
    total = 0
    for name, about in sorted(system.find(path, detail=True).items()):
        # Some file systems do not say how large a file is.
        size = 1 if about["size"] is None else about["size"]
        if member_filter.takes(name.removeprefix(path.rstrip("/") + "/"), size, folder / str(len(wanted))):
            wanted.append(name)
            total += size
    if total > budget.total:
        raise over_budget(f"data.source = '{url}' holds {total / 1e9:.3g} GB", budget)
    with tqdm(total=len(wanted), desc="fetch", disable=None) as bar:
        for start in range(0, len(wanted), _BATCH):
            _require_time(url, budget, deadline)
            names = wanted[start : start + _BATCH]
            system.get(names, [str(folder / str(number)) for number in range(start, start + len(names))])
            bar.update(len(names))
    return member_filter.files, member_filter.rejects()
