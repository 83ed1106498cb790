"""An image becomes a square by each fit, without aliasing and with all that the fit promises."""

import numpy as np
import pytest
from PIL import Image

from stages.core.dataset.augmentation import GREY
from stages.core.dataset.resizing import resize_to_square


def marked(width: int, height: int) -> Image.Image:
    """White, with a black border at the left and right ends."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[:, : width // 8] = pixels[:, -width // 8 :] = 0
    return Image.fromarray(pixels)


def test_stretch_shows_everything_out_of_shape() -> None:
    result = resize_to_square(marked(160, 80), 40, "stretch")
    assert result.shape == (40, 40, 3)
    assert result[:, 0].max() < 10
    assert result[:, -1].max() < 10
    assert result[:, 20].min() == 255


@pytest.mark.parametrize("turned", [False, True])
def test_crop_shows_the_centre(turned: bool) -> None:  # noqa: FBT001
    image = marked(160, 80)
    result = resize_to_square(image.transpose(Image.Transpose.ROTATE_90) if turned else image, 40, "crop")
    assert result.shape == (40, 40, 3)
    assert result.min() == 255


@pytest.mark.parametrize("turned", [False, True])
def test_pad_shows_everything_between_grey(turned: bool) -> None:  # noqa: FBT001
    image = marked(160, 80)
    result = resize_to_square(image.transpose(Image.Transpose.ROTATE_90) if turned else image, 40, "pad")
    upright = result.transpose(1, 0, 2) if turned else result
    assert (upright[:10] == GREY).all()
    assert (upright[30:] == GREY).all()
    assert (upright[10:30] != GREY).all()
    assert upright[20, 0].max() < 10
    assert upright[20, 20].min() == 255


def test_a_very_narrow_image_is_padded_too() -> None:
    result = resize_to_square(Image.new("RGB", (1000, 1)), 32, "pad")
    assert (result[15] == 0).all()
    assert (np.delete(result, 15, axis=0) == GREY).all()


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(48, 48), (20, 20)])
def test_a_square_comes_out_the_same_way_by_every_fit(fit: str, size: tuple[int, int]) -> None:
    coarse = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    expected = np.asarray(image.resize((48, 48), Image.Resampling.BILINEAR))
    assert np.array_equal(resize_to_square(image, 48, fit), expected)


def test_reducing_does_not_alias() -> None:
    stripes = np.zeros((480, 480, 3), np.uint8)
    stripes[:, ::2] = 255
    result = resize_to_square(Image.fromarray(stripes), 48, "stretch")
    assert result.min() > 115
    assert result.max() < 140
