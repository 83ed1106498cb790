"""Downloading published weight files: verified before use, from Keras's URL or a mirror.

A file that Keras publishes is known by name, URL and hash (MobileNet and MobileNetV2 have no hash: only
the format of their files is checked). It is looked up in Keras's own cache, then in the mirror or at
Keras's URL. A host that does not answer is tried once, not once for each backbone. Imports no Keras.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from tqdm import tqdm

from stages.core.addresses import redirect_fault
from stages.core.errors import WeightsError
from stages.core.files import replacing
from stages.core.settings.backbones import Network
from stages.core.settings.weights import FetchParams
from stages.core.surroundings import keras_home

if TYPE_CHECKING:
    import httpx

# A host that did not answer is not tried again for this many seconds.
_REMEMBER_SECONDS = 600
_UNREACHABLE = Path(".cache/unreachable.json")
# Where files of weights that the user names by URL are kept.
_OWN = Path(".cache/weights")
# Give up on a server that sends no more than a byte now and then. Not a parameter, unlike data.max_fetch_minutes: the
# sizes of these files are known, and the largest, of 600 MB, takes as long at 80 kB a second.
_MOST_SECONDS = 2 * 3600
# The first bytes of every HDF5 file (HDF5 file format specification 3.0, II.A).
_HDF5 = b"\x89HDF\r\n\x1a\n"

log = logging.getLogger(__name__)


class UnreachableError(WeightsError):
    """No answer, or no such file: the weights are unavailable."""


@dataclass(frozen=True)
class Published:
    """A weight file that Keras publishes: its name, its URL, its md5 or sha256 (None if Keras has none)."""

    name: str
    url: str
    checksum: str | None


def fetch(file: Published, params: FetchParams) -> Path:
    """Return a verified local copy of `file`: from Keras's cache, the mirror, or Keras's own URL.

    Raises UnreachableError when the host does not answer or has no such file, and WeightsError when the
    content is not what was published.
    """
    cached = cache_folder() / file.name
    if cached.is_file():
        if _fault(cached, file) is None:
            return cached
        log.warning("%s in Keras's cache is damaged: fetching it again", file.name)
    if params.mirror and "://" not in params.mirror:
        return _from_folder(file, Path(params.mirror).expanduser())
    url = f"{params.mirror.rstrip('/')}/{file.name}" if params.mirror else file.url
    host = urlsplit(url).netloc
    if params.if_unreachable == "random" and host in _unreachable():
        raise _no_answer(host)
    with replacing(cached) as temporary:
        _download(url, temporary, params.connect_timeout)
        _verify(temporary, file, url)
    return cached


def fetch_own(url: str, expected: str | None, params: FetchParams) -> Path:
    """Return a local copy of a file that the user names by `url`; fetched once where its checksum is known.

    `expected` is "sha256:..." or None: then it is fetched every time, since what lies at a URL may change. The caller
    verifies it. Raises WeightsError when it cannot be had.
    """
    name = Path(unquote(urlsplit(url).path)).name
    kept = _OWN / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    if expected and kept.is_file() and f"sha256:{checksum(kept, 'sha256')}" == expected:
        return kept
    try:
        with replacing(kept) as temporary:
            _download(url, temporary, params.connect_timeout)
    except UnreachableError as error:
        raise WeightsError(
            error.received, "a file of weights at that URL", "correct it, or fetch the file into weights.folder"
        ) from error
    return kept


def require_expected(path: Path, digest: str, backbone: Network) -> None:
    """Raise WeightsError when a file of the user's own has another digest than the backbone's line says."""
    if backbone.checksum not in (None, digest):
        raise WeightsError(
            f"'{path}' has {digest}",
            f"{backbone.checksum}, as backbones.{backbone.name}.checksum says",
            "the file is damaged or not the expected one: fetch it again, or correct the checksum",
        )


def _from_folder(file: Published, folder: Path) -> Path:
    path = folder / file.name
    if not path.is_file():
        raise UnreachableError(
            f"mirror '{folder}' holds no {file.name}", "Keras's weight files under their own names", "put it there"
        )
    _verify(path, file, str(path))
    return path


def _verify(path: Path, file: Published, source: str) -> None:
    fault = _fault(path, file)
    if fault:
        raise WeightsError(
            f"{source} {fault} ({path.stat().st_size} bytes)",
            f"{file.checksum or 'an HDF5 file'}, as Keras publishes it",
            "the file is damaged or not the original: fetch it again, or correct weights.mirror",
        )
    if file.checksum is None:
        log.warning("%s: Keras publishes no hash of it, so it cannot be verified", file.name)


def _fault(path: Path, file: Published) -> str | None:
    """Return why `path` is not the published file, or None if it is."""
    if file.checksum is None:
        with path.open("rb") as opened:
            return None if opened.read(len(_HDF5)) == _HDF5 else "is not an HDF5 file"
    kind = algorithm(file.checksum)
    found = checksum(path, kind)
    return None if found == file.checksum else f"has {kind} {found}"


def _download(url: str, target: Path, connect_timeout: float) -> None:
    """Stream `url` into `target`, with a progress bar."""
    import httpx

    host = urlsplit(url).netloc
    log.info("downloading %s", url)
    timeout = httpx.Timeout(30.0, connect=connect_timeout)
    response: httpx.Response | None = None
    deadline = time.monotonic() + _MOST_SECONDS
    try:
        hooks: dict[str, list[Callable[..., None]]] = {"response": [partial(_refuse_redirect, url)]}
        with (
            httpx.Client(timeout=timeout, follow_redirects=True, event_hooks=hooks) as client,
            client.stream("GET", url) as response,
        ):
            _refuse(response, url)
            size = int(response.headers.get("content-length", 0)) or None
            with target.open("wb") as file, tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    _require_time(url, deadline)
                    bar.update(len(chunk))
    except (httpx.RequestError, httpx.InvalidURL, ImportError, ValueError) as error:
        # ImportError and ValueError come from proxies in the environment that httpx cannot use.
        if response and response.num_bytes_downloaded:
            raise WeightsError(
                f"{url} was interrupted after {response.num_bytes_downloaded} bytes",
                "the whole file",
                "run again; nothing was kept",
            ) from error
        _remember(host)
        raise _no_answer(host) from error


def _require_time(url: str, deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise WeightsError(
            f"{url} is not fetched after {_MOST_SECONDS / 60:g} minutes",
            "the whole file by then",
            "fetch it yourself into a folder, and name that as weights.mirror",
        )


def _refuse_redirect(url: str, response: "httpx.Response") -> None:
    target = urljoin(str(response.url), response.headers.get("location", ""))
    if response.has_redirect_location and (fault := redirect_fault(url, target)):
        raise UnreachableError(f"{url} is {fault}", "a redirect to a public address", "name another weights.mirror")


def _refuse(response: "httpx.Response", url: str) -> None:
    if not response.is_success:
        raise UnreachableError(
            f"{url} answered {response.status_code}",
            "200 and the file",
            "check weights.mirror, or put the file into a folder and name that as weights.mirror",
        )


def _no_answer(host: str) -> UnreachableError:
    return UnreachableError(
        f"'{host}' cannot be reached",
        "a network, or the files in a folder",
        "name a folder or a URL prefix that holds Keras's weight files as weights.mirror, "
        "or set weights.if_unreachable to random",
    )


def _unreachable() -> dict[str, float]:
    """Return the hosts that did not answer recently. Stages are processes: they share this in a file."""
    try:
        known: dict[str, float] = json.loads(_UNREACHABLE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {host: moment for host, moment in known.items() if 0 <= time.time() - moment < _REMEMBER_SECONDS}


def _remember(host: str) -> None:
    with replacing(_UNREACHABLE) as temporary:
        temporary.write_text(json.dumps(_unreachable() | {host: time.time()}), encoding="utf-8")


def cache_folder() -> Path:
    """Return Keras's own cache of weights, shared by all Keras programs, or, without one to write to, the project's.

    Source: https://keras.io/api/utils/python_utils/#get_file-function.
    """
    try:
        folder = keras_home() / "models"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return Path(".cache/keras")
    return folder if os.access(folder, os.W_OK) else Path(".cache/keras")


def checksum(path: Path, kind: str) -> str:
    """Return a file's checksum in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def algorithm(digest: str) -> str:
    """Return the algorithm of a hexadecimal `digest`: md5 or sha256, as Keras publishes them."""
    return "sha256" if len(digest) == hashlib.sha256().digest_size * 2 else "md5"
