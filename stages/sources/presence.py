"""Whether the images are where `data.source` says, before DVC looks for them with a less helpful message."""

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from stages.core.addresses import holds_secret
from stages.core.errors import ParameterError, UserError
from stages.core.params import nearest, shown
from stages.core.recorded import STAGE
from stages.sources.hashing import obstacles

_LOCK = Path("dvc.lock")
# A server that is silent for this time does not answer.
_SECONDS = 30.0


def source_faults(params: Mapping[str, Any]) -> list[UserError]:
    """Return what would stop DVC at `data.source`, which it hashes before `ingest` runs, with a less helpful message.

    A source under DVC (`dvc add`, `dvc import-url`) may still be fetched. Of one that dvc.lock records, but that is not
    here, DVC itself has no need with `--allow-missing`: a stage that it runs finds no fault in it.
    """
    data = params.get("data")
    source = data.get("source") if isinstance(data, Mapping) else None
    if not isinstance(source, str) or not source:
        return []
    if "://" in source:
        return _faults_of_address(source)
    path = Path(source)
    if os.path.lexists(path):
        return [*obstacles(path)]
    if is_under_dvc(path) or (STAGE in os.environ and _is_recorded(source)):
        return []
    return [_missing(path)]


def _faults_of_address(source: str) -> list[UserError]:
    """Return the fault of a web server that does not answer, or has no such file: DVC says that it does not exist.

    Without it DVC's results are still those of dvc.lock, as without a folder.
    """
    is_web = source.startswith(("http://", "https://")) and not holds_secret(source)
    if not is_web or (STAGE in os.environ and _is_recorded(source)) or not (what := _unanswered(source)):
        return []
    kept = "; earlier results are kept, and `dvc repro --pull --allow-missing` goes on with them"
    return [
        ParameterError(
            f"data.source = {shown(source)} {what}",
            "a server that answers with the file",
            f"correct the URL, or run again later{kept if _is_recorded(source) else ''}",
            "data.source",
        )
    ]


def _unanswered(url: str) -> str:
    """Return how a web server fails to offer the file at `url`, or an empty string.

    No redirect is followed, and a question of rights (401, 403) is none here: fetching answers both. Nor is what keeps
    this client alone from asking, such as a SOCKS proxy.
    """
    import httpx

    try:
        # The system's certificates, as for fetching.
        with httpx.Client(timeout=_SECONDS, verify=ssl.create_default_context()) as client:
            status = client.head(url).status_code
            if _is_lacking(status):
                # Many servers answer HEAD wrongly.
                with client.stream("GET", url, headers={"Range": "bytes=0-0"}) as response:
                    status = response.status_code
    except httpx.TransportError as error:
        return f"cannot be reached ({type(error).__name__}: {error})"
    except (httpx.InvalidURL, ImportError, ValueError):
        return ""
    return f"answers {status}" if _is_lacking(status) else ""


def _is_lacking(status: int) -> bool:
    """Return whether a status says that there is no such file, or a fault of the server (RFC 9110, 15.5 and 15.6)."""
    return status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE) or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def is_under_dvc(path: Path) -> bool:
    """Return whether DVC keeps a file or folder, or one that holds it: it may be fetched where it is missing."""
    return any(place.with_name(f"{place.name}.dvc").exists() for place in (path, *path.parents) if place.name)


def _is_recorded(source: str) -> bool:
    """Return whether dvc.lock has results that were made of `source`, here or in another clone."""
    try:
        lock = yaml.load(_LOCK.read_text(encoding="utf-8"), yaml.CSafeLoader)
        read = {entry["path"] for entry in lock["stages"]["ingest"]["deps"]}
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False
    return source in read


def _missing(path: Path) -> ParameterError:
    return ParameterError(
        f"data.source = {shown(str(path))} does not exist",
        "a folder, an archive or a table of images",
        _remedy(path),
        "data.source",
    )


def _remedy(path: Path) -> str:
    """Return what to do about a path that leads nowhere."""
    if meant := next((place for place in _elsewhere(path) if place.exists()), None):
        return f"write it as '{meant}', or set it so by `-S data.source={meant}`"
    if str(path).startswith("~"):
        return "write the absolute path: DVC does not expand '~'"
    if _is_recorded(str(path)):
        return "put the images there, or go on with a colleague's results: `dvc repro --pull --allow-missing`"
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return nearest(path.name, beside) or (
        "correct the path" if path.is_absolute() else f"correct the path, which counts from '{Path.cwd()}'"
    )


def _elsewhere(path: Path) -> Iterator[Path]:
    """Yield the absolute paths that the user may mean by one that leads nowhere from here.

    Neither DVC nor this program expands `~`. A relative path leads elsewhere from DVC's copies of the project, in which
    `dvc exp run` works with `--queue` or `--temp`, and from git's worktrees.
    """
    with suppress(RuntimeError):  # Without a home folder.
        yield path.expanduser()
    here = Path.cwd()
    for folder in here.parents:
        if folder.match(".dvc/tmp/exps"):
            yield (folder.parents[2] / path).resolve()
    if (link := here / ".git").is_file():
        # gitdir: PROJECT/.git/worktrees/NAME (gitrepository-layout(5))
        for project in Path(link.read_text(encoding="utf-8").partition(" ")[2].strip()).parents[2:3]:
            yield (project / path).resolve()
