"""Thumbnails inside a page, which so stays one file."""

import base64
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from PIL import Image

from stages.core.decoding import decode_accepted, strict_pillow
from stages.core.parallel import in_threads

# Longer side, pixels.
SIDE = 112
_QUALITY = 70


def data_uris(files: Iterable[Path], what: str) -> dict[Path, str]:
    """Return each image as the data URL of a thumbnail; `what` names the work in the progress bar."""
    distinct = sorted(set(files))
    with strict_pillow():
        return dict(zip(distinct, in_threads(_data_uri, distinct, what), strict=True))


def _data_uri(file: Path) -> str:
    small = decode_accepted(file).image
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    stream = BytesIO()
    small.save(stream, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
