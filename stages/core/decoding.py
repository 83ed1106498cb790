"""Decoding images by their content into upright RGB, completely or not at all.

The suffix of a file is ignored. A truncated file is rejected: `PIL.ImageFile`'s LOAD_TRUNCATED_IMAGES stays
False, the checksums of PNG files are verified, and a JPEG has to reach its end marker, which libjpeg does
not require.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, UnidentifiedImageError

from stages.core.errors import DataError

# The suffix of each format by Pillow's name. An MPO is a JPEG followed by further images.
SUFFIXES = {
    "AVIF": "avif",
    "BMP": "bmp",
    "GIF": "gif",
    "HEIF": "heic",
    "JPEG": "jpg",
    "PNG": "png",
    "TIFF": "tif",
    "WEBP": "webp",
}
# Pillow reads AVIF by itself and HEIC, what phones store, through libheif.
pillow_heif.register_heif_opener()

# Exif's orientation: what turns the stored image upright (Exif 2.32, 4.6.4, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# A JPEG marker that is followed by a length, or the end marker (ISO/IEC 10918-1, table B.1). In the
# coded data 0xFF is followed by 0 or by a restart marker.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_JPEG_END = 0xD9

# Pillow warns about these although the pixels are intact.
_HARMLESS = r"(Possibly c|C)orrupt EXIF|Image appears to be a malformed MPO|Invalid APNG"


class UnusableError(Exception):
    """An image that cannot be used. The message is 'kind: detail'; the audit counts the kinds."""


@dataclass(frozen=True)
class Limits:
    """The smallest shorter side and the largest area of an image, pixels."""

    shorter_side: int
    area: float


@dataclass(frozen=True)
class Decoded:
    """A decoded image: upright RGB, and the format and Pillow mode of its file."""

    image: Image.Image
    format: str
    mode: str

    def digest(self) -> str:
        """Return the SHA-256 of size and pixels in hex: equal for copies, however their files are encoded."""
        width, height = self.image.size
        return hashlib.sha256(b"%d x %d " % (width, height) + self.image.tobytes()).hexdigest()


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Turn Pillow's warnings into errors and its own size limit off; `Limits` replaces it.

    Both are global to the process: enter this once, around all threads that decode.
    """
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", module=r"PIL\.")
            warnings.filterwarnings("ignore", _HARMLESS, module=r"PIL\.")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def decode(data: bytes, limits: Limits | None = None) -> Decoded:
    """Return the image in `data`, the first one of an animation or of several pages.

    Transparency is composited over white, as viewers show it. CMYK is converted without its colour profile;
    JPEG stores it inverted, as Adobe does and Pillow assumes. 16-bit grey is scaled to 8 bits.

    Raises UnusableError; what violates `limits` is rejected before it is decoded.
    """
    with _open(data) as header:
        name = "JPEG" if header.format == "MPO" else str(header.format)
        if name not in SUFFIXES:
            raise UnusableError(f"unsupported format: {name} is not one of {', '.join(SUFFIXES)}")
        if limits:
            _check_size(header.size, limits)
        _verify(header, name, data)
    with _open(data) as image:
        mode = image.mode
        return Decoded(_decoded(image), name, mode)


def decode_accepted(file: Path) -> Decoded:
    """Return an image that ingest accepted. Raise DataError when it is missing or damaged by now."""
    try:
        return decode(file.read_bytes())
    except (OSError, UnusableError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(
            f"'{file}' cannot be read ({reason})", "the image that ingest accepted", "run: dvc repro -f ingest"
        ) from error


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(data))
    except UnidentifiedImageError:
        raise UnusableError("not an image: in no known format, or its header is broken") from None
    except Exception as error:  # Broken files make Pillow raise nearly anything.
        raise _broken(error) from error


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if min(size) < limits.shorter_side:
        raise UnusableError(f"too small: {width} x {height} pixels, the shorter side has to be {limits.shorter_side}")
    if width * height > limits.area:
        raise UnusableError(f"too many pixels: {width} x {height}, at most {limits.area / 1e6:g} million")


def _verify(header: Image.Image, name: str, data: bytes) -> None:
    """Raise UnusableError when checksums are wrong or the end of a JPEG is missing."""
    try:
        header.verify()
    except Exception as error:
        raise _broken(error) from error
    if name == "JPEG" and not _reaches_end(data):
        raise UnusableError("broken: the JPEG stops before its end marker")


def _reaches_end(data: bytes) -> bool:
    """Walk the segments of a JPEG; an end marker inside a thumbnail's segment does not count."""
    position = 2
    while match := _JPEG_MARKER.search(data, position):
        position = match.end()
        if data[position - 1] == _JPEG_END:
            return True
        position += int.from_bytes(data[position : position + 2])
    return False


def _decoded(image: Image.Image) -> Image.Image:
    try:
        image.load()
        # Read after loading: Pillow itself turns a TIFF upright and then removes the tag.
        turn = _UPRIGHT.get(_orientation(image))
        colour = _rgb(image)
    except UnusableError:
        raise
    except Exception as error:
        raise _broken(error) from error
    return colour.transpose(turn) if turn is not None else colour


def _orientation(image: Image.Image) -> int:
    """Return Exif's orientation, or 1 (upright) without one; broken Exif does not mean broken pixels."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001
        return 1
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "F"}:
        raise UnusableError(f"unsupported mode: {image.mode}, 32-bit grey has no fixed range")
    if image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        overlay = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", overlay.size, "white"), overlay).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey; Pillow's own conversion clips everything above 255."""
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _broken(error: Exception) -> UnusableError:
    return UnusableError(f"broken: {error or type(error).__name__}")
