"""Decoding images by their content into upright RGB, completely or not at all.

The suffix of a file is ignored. A truncated file is rejected: `PIL.ImageFile`'s LOAD_TRUNCATED_IMAGES stays
False, the checksums of PNG files are verified, and a JPEG has to reach its end marker, which libjpeg does
not require. What is wrong with metadata alone costs no image.
"""

import hashlib
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

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

# Grey TIFFs of more than 8 bits in which zero is white (PhotometricInterpretation 0): Pillow knows but some of these
# forms, and reads them as if zero were black. The key of a form begins with byte order and interpretation.
for (_order, _interpretation, _numbers, _filled, _bits, _extra), _modes in list(TiffImagePlugin.OPEN_INFO.items()):
    if _interpretation == 1 and _bits in {(12,), (16,), (32,)}:
        TiffImagePlugin.OPEN_INFO.setdefault((_order, 0, _numbers, _filled, _bits, _extra), _modes)

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

# The first bytes of a PNG; the chunks in which it says its orientation, the second as ImageMagick writes it.
_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = re.compile(rb"eXIf|[tz]TXtRaw profile type exif\0")

# A JPEG marker that is followed by a length, or the end marker (ISO/IEC 10918-1, table B.1). In the
# coded data 0xFF is followed by 0 or by a restart marker.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_JPEG_END = 0xD9

# Each scan of a JPEG passes over the whole image, even if it holds nothing; encoders write about ten.
_MAX_SCANS = 100
_JPEG_SCAN = 0xDA

# Of Pillow's warnings, those about a tag of a TIFF that says how its pixels are stored (TIFF 6.0, part 1 and 2): width,
# length, bits, compression, photometric interpretation, fill order, strips, samples, planes, predictor, tiles, format.
_PIXEL_TAGS = r"Metadata Warning, tag (25[6-9]|262|266|27[3789]|284|317|32[2-5]|339) "

# Depths of what sensors deliver in 16 bits.
_DEPTHS = (8, 10, 12, 14, 16)
# Pillow keeps the upper byte of 16-bit colours. It keeps the lower one if told the other order of the bytes; of grey
# with alpha, which takes four bytes a pixel, it can keep each byte as a channel.
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_DEEP_COLOURS = re.compile(r"(RGB|RGBX|RGBA);16[BLN]")
_DEEP_GREY_ALPHA = "LA;16B"
# Pillow widens signed 16-bit grey to its mode of 32 bits.
_SIGNED_16 = {"I;16S", "I;16BS"}


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
    """Turn Pillow's warnings about pixels into errors, its others and its own size limit off; `Limits` replaces that.

    Both are global to the process: enter this once, around all threads that decode.
    """
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.filterwarnings("error", _PIXEL_TAGS, module=r"PIL\.")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def starts_like_image(start: bytes) -> bool:
    """Return whether a file with these first 16 bytes may be an image of a known format."""
    Image.init()
    return any(accept(start) for name in SUFFIXES if (accept := Image.OPEN[name][1]))


def decode(data: bytes, limits: Limits | None = None) -> Decoded:
    """Return the image in `data`, the first one of an animation or of several pages.

    Transparency is composited over white, as viewers show it. Colour profiles are ignored, as in the decoding of the
    images that published weights were trained on: Display P3 and Adobe RGB are read as sRGB. CMYK is converted without
    its profile; JPEG stores it inverted, as Adobe does and Pillow assumes. Of 16-bit grey and colours
    the upper eight of the fewest bits (8, 10, 12, 14 or 16) that hold the image's largest value are kept: cameras store
    10 or 12 bits in 16. Where a TIFF says that zero is white, grey is inverted within these bits.

    Raises UnusableError; what violates `limits` is rejected before it is decoded. MemoryError is none of the image's.
    """
    data = _without_metadata(data)
    with _open(data) as header:
        name = "JPEG" if header.format == "MPO" else str(header.format)
        if name not in SUFFIXES:
            raise UnusableError(f"unsupported format: {name} is not one of {', '.join(SUFFIXES)}")
        if limits:
            _check_size(header.size, limits)
        _verify(header, name, data)
    with _open(data) as image:
        mode = image.mode
        return Decoded(_decoded(image, data), name, mode)


def decode_accepted(file: Path) -> Decoded:
    """Return an image that ingest accepted. Raise DataError when it is missing or damaged by now."""
    try:
        return decode(file.read_bytes())
    except (OSError, UnusableError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(
            f"'{file}' cannot be read ({reason})", "the image that ingest accepted", "run: dvc repro -f ingest"
        ) from error


def _open(data: bytes) -> ImageFile.ImageFile:
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


def _without_metadata(data: bytes) -> bytes:
    """Return a PNG with the chunks alone that its pixels need, and its orientation; anything else unchanged.

    Pillow gives up on a PNG when the checksum of any chunk is wrong, or a text is long.
    """
    if not data.startswith(_PNG):
        return data
    kept, position, kind = [_PNG], len(_PNG), b""
    while kind != b"IEND" and position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        chunk = data[position : position + size + 12]
        # A small first letter marks what an image can be shown without (PNG, 5.4).
        if kind[:1].isupper() or kind == b"tRNS" or (_ORIENTATION.match(chunk, 4) and _is_whole(chunk)):
            kept.append(chunk)
        position += size + 12
    return b"".join(kept)


def _is_whole(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])


def _verify(header: Image.Image, name: str, data: bytes) -> None:
    """Raise UnusableError when checksums are wrong, or a JPEG lacks its end or passes over its pixels too often."""
    try:
        header.verify()
    except Exception as error:
        raise _broken(error) from error
    if name == "JPEG":
        _verify_jpeg(data)


def _verify_jpeg(data: bytes) -> None:
    """Walk the segments of a JPEG; an end marker inside a thumbnail's segment does not count."""
    position, scans = 2, 0
    while match := _JPEG_MARKER.search(data, position):
        position = match.end()
        marker = data[position - 1]
        if marker == _JPEG_END:
            return
        scans += marker == _JPEG_SCAN
        if scans > _MAX_SCANS:
            raise UnusableError(f"too many scans: the JPEG has more than {_MAX_SCANS}")
        position += int.from_bytes(data[position : position + 2])
    raise UnusableError("broken: the JPEG stops before its end marker")


def _decoded(image: ImageFile.ImageFile, data: bytes) -> Image.Image:
    raw_mode = _raw_mode(image)
    try:
        image.load()
        # Read after loading: Pillow itself turns a TIFF upright and then removes the tag.
        turn = _UPRIGHT.get(_orientation(image))
        colour = _rgb(_eight_bits(image, raw_mode, data), raw_mode)
    except UnusableError:
        raise
    except Exception as error:
        raise _broken(error) from error
    return colour.transpose(turn) if turn is not None else colour


def _orientation(image: Image.Image) -> int:
    """Return Exif's orientation, or 1 (upright) without one; broken Exif does not mean broken pixels."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001
        return 1
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image, raw_mode: str) -> Image.Image:
    if image.mode in {"I", "F"}:
        kind = "signed 16-bit" if raw_mode in _SIGNED_16 else "32-bit"
        raise UnusableError(f"unsupported mode: {image.mode}, {kind} grey has no fixed range")
    if image.has_transparency_data:
        overlay = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", overlay.size, "white"), overlay).convert("RGB")
    return image.convert("RGB")


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Return how the file stores its pixels, in Pillow's words, or an empty string if Pillow does not say."""
    if not image.tile:
        return ""
    arguments = image.tile[0].args
    raw_mode = arguments[0] if isinstance(arguments, tuple) else arguments
    return raw_mode if isinstance(raw_mode, str) else ""


def _eight_bits(image: Image.Image, raw_mode: str, data: bytes) -> Image.Image:
    """Return an image of at most 8 bits a channel, stretched over them if it has 16, of which it may use fewer."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        depth = 12 if raw_mode == "I;12" else _depth(int(values.max()))
        levels = (values >> (depth - 8)).astype(np.uint8)
        return Image.fromarray(~levels if _is_white_zero(image) else levels)
    if raw_mode == _DEEP_GREY_ALPHA or _DEEP_COLOURS.fullmatch(raw_mode):
        return _deep_colours(image, raw_mode, data)
    return image


def _is_white_zero(image: Image.Image) -> bool:
    """Return whether the smallest value of a TIFF is white, as in scans of films (TIFF 6.0, part 1, tag 262)."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0


def _depth(largest: int) -> int:
    """Return the fewest bits that hold `largest`, one of `_DEPTHS`."""
    return next(depth for depth in _DEPTHS if largest < 1 << depth)


def _deep_colours(image: Image.Image, raw_mode: str, data: bytes) -> Image.Image:
    """Return an image whose channels are the upper bytes of 16 bits with the upper bits that its colours use."""
    upper = np.asarray(image)
    if _depth(int(upper[..., :3].max()) << 8) == _DEPTHS[-1]:
        return image
    lower = _lower_bytes(raw_mode, data)
    parts = [slice(0, 3), slice(3, 4)][: upper.shape[-1] - 2]
    # Alpha may use other bits than the colours.
    return Image.fromarray(np.concatenate([_upper_bits(upper[..., part], lower[..., part]) for part in parts], axis=-1))


def _upper_bits(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> NDArray[np.uint8]:
    depth = _depth(int(upper.max()) << 8)
    bits: NDArray[np.uint8] = np.left_shift(upper, 16 - depth)
    bits |= np.right_shift(lower, depth - 8)
    return bits


def _lower_bytes(raw_mode: str, data: bytes) -> NDArray[np.uint8]:
    """Return the lower bytes of the channels of 16-bit colours (height, width, 3 or 4)."""
    with _open(data) as image:
        other = "RGBA" if raw_mode == _DEEP_GREY_ALPHA else raw_mode[:-1] + _OTHER_ORDER[raw_mode[-1]]
        image.tile = [
            tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
            for tile in image.tile
        ]
        image.load()
        channels = np.asarray(image)
    return channels[..., [1, 1, 1, 3]] if raw_mode == _DEEP_GREY_ALPHA else channels


def _broken(error: Exception) -> UnusableError:
    if isinstance(error, MemoryError):
        raise error
    return UnusableError(f"broken: {error or type(error).__name__}")
