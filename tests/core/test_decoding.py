"""Images are decoded by content, upright and in RGB, to their last byte or not at all."""

import struct
import warnings
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from stages.core.decoding import SUFFIXES, Limits, UnusableError, decode, strict_pillow

ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    with strict_pillow():
        yield


def scene(width: int = 60, height: int = 40) -> Image.Image:
    """A smooth image without symmetry: reddish on the left, blueish at the bottom, a bright corner."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.stack([230 * (1 - across), 90 * across * down, 220 * down], axis=-1)
    pixels[: height // 4, : width // 4] = 250
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(decode(data).image).astype(int)


def with_orientation(image: Image.Image, orientation: int, form: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    # As bytes: from those alone the writer of HEIC takes the turn that its readers go by.
    return encoded(image, form, exif=exif.tobytes(), **options)


def reason(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(UnusableError) as caught:
        decode(data, limits)
    return str(caught.value)


LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})]
EVERY = [
    *LOSSLESS,
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("GIF", {}),
    ("TIFF", {"compression": "jpeg"}),
    ("AVIF", {}),
    ("HEIF", {}),
]


@pytest.mark.parametrize(("form", "options"), LOSSLESS)
def test_lossless_formats_give_the_very_pixels(form: str, options: dict[str, Any]) -> None:
    image = decode(encoded(scene(), form, **options))
    assert np.array_equal(np.asarray(image.image), np.asarray(scene()))
    assert (image.format, image.mode) == (form, "RGB")
    assert image.format in SUFFIXES


@pytest.mark.parametrize(("form", "options"), [("JPEG", {"subsampling": 0}), ("AVIF", {}), ("HEIF", {})])
def test_what_phones_store_gives_nearly_the_pixels(form: str, options: dict[str, Any]) -> None:
    data = encoded(scene(), form, quality=95, **options)
    assert np.abs(pixels(data) - np.asarray(scene())).mean() < 2
    assert (decode(data).format, form in SUFFIXES) == (form, True)


@pytest.mark.parametrize("tenth", range(10))
@pytest.mark.parametrize(("form", "options"), EVERY)
def test_a_file_cut_at_any_tenth_is_refused(form: str, options: dict[str, Any], tenth: int) -> None:
    data = encoded(scene(), form, **options)
    assert reason(data[: len(data) * tenth // 10]).startswith(("broken: ", "not an image: "))


@pytest.mark.parametrize("tenth", range(2, 10))
def test_a_jpeg_cut_and_filled_with_zeros_is_refused(tenth: int) -> None:
    data = encoded(scene(300, 200), "JPEG", quality=95)
    kept = len(data) * tenth // 10
    assert reason(data[:kept] + bytes(len(data) - kept)) == "broken: the JPEG stops before its end marker"


def test_a_jpeg_without_its_end_marker_is_refused() -> None:
    data = encoded(scene(), "JPEG")
    assert data.endswith(b"\xff\xd9")
    assert reason(data[:-2]) == "broken: the JPEG stops before its end marker"


def test_the_end_marker_of_a_thumbnail_does_not_count() -> None:
    thumbnail = encoded(scene(16, 16), "JPEG")
    data = encoded(scene(), "JPEG", comment=thumbnail)
    assert thumbnail in data
    decode(data)
    assert reason(data[:-2]) == "broken: the JPEG stops before its end marker"


def test_bytes_after_the_end_of_a_jpeg_do_no_harm() -> None:
    data = encoded(scene(), "JPEG")
    assert np.array_equal(pixels(data + b"more" * 100), pixels(data))


@pytest.mark.parametrize("form", ["AVIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_agree_with_the_upright_image(form: str, orientation: int) -> None:
    # What a camera stores is the upright image turned back, by the inverse of the orientation.
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[ORIENTATION] = back
    carrier = scene()
    carrier.info["exif"] = exif.tobytes()
    stored = ImageOps.exif_transpose(carrier) if back > 1 else carrier
    assert stored is not None
    stored.info.pop("exif", None)
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    result = decode(with_orientation(stored, orientation, form, **options))
    assert result.image.size == (60, 40)
    assert np.abs(np.asarray(result.image).astype(int) - np.asarray(scene())).mean() < 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    assert np.array_equal(pixels(with_orientation(scene(), orientation, "PNG")), np.asarray(scene()))


BROKEN_EXIF = [
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0II*\0\x08\0\0\0\x01",
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12",
    b"Exif\0\0XX*\0\x08\0\0\0",
    b"Exif\0\0II",
]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", BROKEN_EXIF)
def test_broken_exif_does_not_cost_the_image(exif: bytes, form: str) -> None:
    data = encoded(scene(), form, exif=exif)
    assert np.array_equal(pixels(data), pixels(encoded(scene(), form)))


def test_an_orientation_that_is_no_number_turns_nothing() -> None:
    entry = struct.pack("<HHII", ORIENTATION, 2, 4, int.from_bytes(b"six\0", "little"))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)
    data = encoded(scene(), "JPEG", exif=exif)
    assert np.array_equal(pixels(data), pixels(encoded(scene(), "JPEG")))


def test_cmyk_comes_out_in_the_right_colours() -> None:
    data = encoded(scene().convert("CMYK"), "JPEG", quality=95)
    assert decode(data).mode == "CMYK"
    assert np.abs(pixels(data) - np.asarray(scene())).mean() < 4


def test_greyscale_gets_three_equal_channels() -> None:
    result = pixels(encoded(scene().convert("L"), "PNG"))
    assert np.array_equal(result, np.stack([np.asarray(scene().convert("L"))] * 3, axis=-1))


def test_black_and_white_gets_the_whole_range() -> None:
    assert set(np.unique(pixels(encoded(scene().convert("1"), "PNG")))) == {0, 255}


def test_a_palette_gives_its_colours() -> None:
    image = scene().quantize(64)
    assert np.array_equal(pixels(encoded(image, "PNG")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255, 255])])
def test_transparent_entries_of_a_palette_show_white(transparency: int | bytes) -> None:
    image = scene().quantize(4)
    data = encoded(image, "PNG", transparency=transparency)
    result = pixels(data)
    assert decode(data).mode == "P"
    assert (result[np.asarray(image) == 0] == 255).all()
    opaque = np.asarray(image) == 3
    assert np.array_equal(result[opaque], np.asarray(image.convert("RGB"))[opaque])


@pytest.mark.parametrize(("alpha", "expected"), [(0, [255, 255, 255]), (255, [200, 0, 100]), (51, [244, 204, 224])])
def test_alpha_is_laid_over_white(alpha: int, expected: list[int]) -> None:
    result = pixels(encoded(Image.new("RGBA", (8, 8), (200, 0, 100, alpha)), "PNG"))
    assert np.abs(result - expected).max() <= 1


def test_a_transparent_colour_shows_white() -> None:
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    assert (pixels(encoded(image, "PNG", transparency=(1, 2, 3))) == 255).all()


def test_grey_with_alpha_is_laid_over_white() -> None:
    assert (pixels(encoded(Image.new("LA", (8, 8), (10, 0)), "PNG")) == 255).all()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_grey_of_32_bits_is_refused(kind: type[np.generic]) -> None:
    data = encoded(Image.fromarray(np.zeros((8, 8), kind)), "TIFF")
    assert reason(data).startswith("unsupported mode: ")


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_of_an_animation_the_first_image_counts(form: str) -> None:
    first, second = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 200))
    data = encoded(first, form, save_all=True, append_images=[second])
    assert np.abs(pixels(data) - [200, 0, 0]).max() < 8


def test_of_several_images_in_one_jpeg_the_first_counts() -> None:
    data = encoded(scene(), "MPO", save_all=True, append_images=[scene(16, 16)])
    assert Image.open(BytesIO(data)).format == "MPO"
    assert decode(data).format == "JPEG"
    assert decode(data).image.size == (60, 40)


@pytest.mark.parametrize("form", ["PPM", "ICO", "TGA"])
def test_other_formats_are_refused_by_name(form: str) -> None:
    assert reason(encoded(scene(), form)) == (
        f"unsupported format: {form} is not one of AVIF, BMP, GIF, HEIF, JPEG, PNG, TIFF, WEBP"
    )


@pytest.mark.parametrize("data", [b"", b"label,file\ntree,a.jpg\n", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    assert reason(data).startswith(("not an image: ", "broken: "))


def test_the_size_is_held_against_the_limits_before_decoding() -> None:
    limits = Limits(shorter_side=32, area=2400)
    decode(encoded(scene(60, 40), "JPEG"), limits)
    assert reason(encoded(scene(100, 31), "JPEG"), limits) == (
        "too small: 100 x 31 pixels, the shorter side has to be 32"
    )
    # Only the header is there: what is refused by size is never decoded.
    large = encoded(scene(61, 40), "BMP")[:60]
    assert reason(large, limits) == "too many pixels: 61 x 40, at most 0.0024 million"


def test_pillows_own_limit_of_size_gives_way_to_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = encoded(scene(), "PNG")
    with strict_pillow():
        assert decode(data).image.size == (60, 40)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_warning_of_pillows_refuses_the_image() -> None:
    # Two widths where there should be one: Pillow warns and takes the first.
    data = bytearray(encoded(scene(), "TIFF"))
    entry = data.index(struct.pack("<HH", 256, 4))
    data[entry + 4 : entry + 8] = struct.pack("<I", 2)
    data[entry + 8 : entry + 12] = struct.pack("<I", 8)
    assert "Metadata Warning" in reason(bytes(data))


def test_strict_pillow_leaves_the_warnings_as_they_were() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        with strict_pillow():
            assert warnings.filters != before
        assert warnings.filters == before


def outcome(data: bytes) -> str:
    try:
        return decode(data, Limits(1, 1e5)).image.mode
    except UnusableError as error:
        return str(error).split(": ")[0]


def test_random_damage_never_raises_anything_else() -> None:
    random = np.random.default_rng(5)
    outcomes = set()
    for form, options in EVERY[:-1]:
        original = encoded(scene(), form, **options)
        for _ in range(30):
            data = bytearray(original)
            for place in random.integers(0, min(len(data), 300), 3):
                data[place] = random.integers(256)
            outcomes.add(outcome(bytes(data)))
    assert outcomes <= {"RGB", "broken", "not an image", "unsupported format", "unsupported mode", "too many pixels"}
    assert {"RGB", "broken", "not an image"} <= outcomes


def test_copies_have_one_digest_whatever_their_files() -> None:
    image = scene()
    digests = {decode(encoded(image, form, **options)).digest() for form, options in LOSSLESS}
    assert len(digests) == 1
    assert decode(encoded(scene(61), "PNG")).digest() not in digests


def test_the_digest_knows_the_shape() -> None:
    wide, high = Image.new("RGB", (8, 4)), Image.new("RGB", (4, 8))
    assert decode(encoded(wide, "PNG")).digest() != decode(encoded(high, "PNG")).digest()
