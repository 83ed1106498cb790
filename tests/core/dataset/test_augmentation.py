"""A view depends on seed, name and number alone; each parameter moves what it names."""

from typing import Any

import cv2
import numpy as np
import pytest

from stages.core.dataset.augmentation import GREY, Augmentation, View, apply, draw
from stages.core.errors import GroupedUserError
from stages.core.params import parse
from stages.core.settings.preprocess import AugmentationParams

STILL: dict[str, Any] = {
    "rotation": 0.0,
    "flip_horizontal": False,
    "flip_vertical": False,
    "zoom": 0.0,
    "translation": 0.0,
    "contrast": 0.0,
    "fill": "reflect",
}
ALL = STILL | {"rotation": 20, "flip_horizontal": True, "zoom": 0.2, "translation": 0.1, "contrast": 0.3}
FILES = [f"tree/{number:016x}.jpg" for number in range(200)]


def drawn(file: str = FILES[0], seed: int = 1, view: int = 1, **changes: Any) -> View:
    return draw(AugmentationParams(**STILL | changes), seed, file, view)


def gradient(side: int = 64) -> np.ndarray[Any, Any]:
    down, across = np.mgrid[0:side, 0:side] / side
    return (np.stack([across, down, across * down], axis=-1) * 255).astype(np.uint8)


def views(**changes: Any) -> list[View]:
    return [drawn(file, **changes) for file in FILES]


def linear_parts(**changes: Any) -> np.ndarray[Any, Any]:
    return np.array([view.linear for view in views(**changes)])


def same(first: View, second: View) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("linear", "shift", "contrast"))


@pytest.mark.parametrize("fill", ["reflect", "nearest", "constant"])
@pytest.mark.parametrize("side", [32, 33, 64])
def test_zero_everywhere_is_the_image_itself(fill: str, side: int) -> None:
    image = np.random.default_rng(2).integers(0, 256, (side, side, 3), dtype=np.uint8)
    assert np.array_equal(apply(drawn(fill=fill), image, fill), image)


def test_the_same_name_has_the_same_views() -> None:
    assert same(drawn(**ALL), drawn(**ALL))


@pytest.mark.parametrize("change", [{"seed": 2}, {"view": 2}, {"file": FILES[1]}])
def test_seed_number_and_name_each_give_another_view(change: dict[str, Any]) -> None:
    assert not same(drawn(**ALL), drawn(**ALL | change))


def test_an_augmentation_shows_an_image_as_it_draws_its_views() -> None:
    params, image = AugmentationParams(**ALL), gradient()
    views = [Augmentation(params, seed).view(image, FILES[0], number) for seed in (1, 2) for number in (1, 2)]
    expected = [apply(draw(params, seed, FILES[0], number), image, "reflect") for seed in (1, 2) for number in (1, 2)]
    assert np.array_equal(views, expected)


@pytest.mark.parametrize("fill", ["reflect", "nearest", "constant"])
def test_views_do_not_depend_on_the_number_of_threads(fill: str) -> None:
    image, threads = np.random.default_rng(2).integers(0, 256, (299, 299, 3), dtype=np.uint8), cv2.getNumThreads()
    found = []
    for number in (1, 4):
        cv2.setNumThreads(number)
        found.append(apply(drawn(**ALL), image, fill))
    cv2.setNumThreads(threads)
    assert np.array_equal(*found)


def test_views_share_nothing_with_the_views_of_the_next_seed() -> None:
    grid = {drawn(seed=seed, view=view, rotation=10).linear.tobytes() for seed in range(5) for view in range(5)}
    assert len(grid) == 25


@pytest.mark.parametrize("side", [32, 65])
def test_mirroring_is_exact(side: int) -> None:
    image = np.random.default_rng(2).integers(0, 256, (side, side, 3), dtype=np.uint8)
    across = View(np.diag([-1.0, 1.0]), np.zeros(2), 1.0)
    down = View(np.diag([1.0, -1.0]), np.zeros(2), 1.0)
    assert np.array_equal(apply(across, image, "constant"), image[:, ::-1])
    assert np.array_equal(apply(down, image, "constant"), image[::-1])


@pytest.mark.parametrize(("name", "axis"), [("flip_horizontal", 0), ("flip_vertical", 1)])
def test_a_flip_mirrors_half_of_the_views_in_its_direction(name: str, axis: int) -> None:
    diagonals = np.array([np.diag(linear) for linear in linear_parts(**{name: True})])
    assert 0.35 < (diagonals[:, axis] == -1).mean() < 0.65
    assert (diagonals[:, 1 - axis] == 1).all()


def test_rotation_goes_to_both_sides_up_to_its_degrees() -> None:
    linear = linear_parts(rotation=30.0)
    degrees = np.rad2deg(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert -30 <= degrees.min() < -25
    assert 25 < degrees.max() <= 30
    assert np.allclose(np.linalg.det(linear), 1)


def test_a_quarter_turn_turns_a_quarter() -> None:
    image = gradient()
    view = View(np.array([[0.0, -1.0], [1.0, 0.0]]), np.zeros(2), 1.0)
    assert np.array_equal(apply(view, image, "constant"), np.rot90(image))


def test_zoom_keeps_the_aspect_and_its_bounds() -> None:
    linear = linear_parts(zoom=0.25)
    assert np.allclose(linear[:, 0, 0], linear[:, 1, 1])
    assert np.allclose(linear[:, 0, 1], 0)
    assert 0.75 <= linear[:, 0, 0].min() < 0.8
    assert 1.2 < linear[:, 0, 0].max() <= 1.25


def test_translation_moves_both_ways_within_its_bounds() -> None:
    shifts = np.array([view.shift for view in views(translation=0.1)])
    assert (np.abs(shifts) <= 0.1).all()
    assert (shifts.min(axis=0) < -0.08).all()
    assert (shifts.max(axis=0) > 0.08).all()


def test_a_translation_is_a_share_of_the_side() -> None:
    image = gradient(40)
    moved = apply(View(np.eye(2), np.array([0.25, 0.0]), 1.0), image, "nearest")
    assert np.array_equal(moved[:, :30], image[:, 10:])
    assert (moved[:, 30:] == image[:, 39:]).all()


def test_contrast_stretches_about_the_mean_of_each_channel() -> None:
    image = gradient()
    expected = np.clip(np.rint((image - image.mean(axis=(0, 1))) * 1.3 + image.mean(axis=(0, 1))), 0, 255)
    result = apply(View(np.eye(2), np.zeros(2), 1.3), image, "reflect")
    assert np.array_equal(result, expected)
    factors = np.array([view.contrast for view in views(contrast=0.3)])
    assert 0.7 <= factors.min() < 0.75
    assert 1.25 < factors.max() <= 1.3


@pytest.mark.parametrize(("fill", "place"), [("constant", None), ("nearest", (0, 0)), ("reflect", (16, 16))])
def test_fill_says_what_lies_beyond_the_edge(fill: str, place: tuple[int, int] | None) -> None:
    image = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    result = apply(View(np.eye(2), np.array([-0.25, -0.25]), 1.0), image, fill)
    assert result[0, 0].tolist() == (image[place].tolist() if place else [GREY] * 3)
    assert np.array_equal(result[16:, 16:], image[:48, :48])


@pytest.mark.parametrize("name", ["rotation", "zoom", "translation", "contrast", "flip_horizontal"])
def test_a_parameter_leaves_the_others_part_as_it_was(name: str) -> None:
    pairs = list(zip(views(**ALL), views(**ALL | {name: STILL[name]}), strict=True))
    assert sum(not same(*pair) for pair in pairs) > len(pairs) / 3
    unmoved = {"contrast": ["linear", "shift"], "translation": ["linear", "contrast"]}.get(name, ["shift", "contrast"])
    for with_it, without in pairs:
        assert all(np.array_equal(getattr(with_it, part), getattr(without, part)) for part in unmoved)


def test_a_view_shows_the_same_at_every_size() -> None:
    view = drawn(FILES[3], **ALL)
    large, small = (apply(view, gradient(side), "reflect").astype(float) for side in (128, 64))
    reduced = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(reduced - small)[8:-8, 8:-8].mean() < 2
    assert np.abs(gradient(64) - small)[8:-8, 8:-8].mean() > 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rotation": 181}, "augmentation.rotation = 181"),
        ({"zoom": 1.0}, "augmentation.zoom = 1.0"),
        ({"translation": -0.1}, "augmentation.translation = -0.1"),
        ({"contrast": 1.5}, "augmentation.contrast = 1.5"),
        ({"flip_vertical": 1}, "augmentation.flip_vertical = 1"),
        ({"fill": "reflct"}, "augmentation.fill = 'reflct'; expected 'reflect', 'nearest' or 'constant'; did you mean"),
    ],
)
def test_bad_parameters_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GroupedUserError) as caught:
        parse(AugmentationParams, STILL | changes, "augmentation")
    assert str(caught.value).startswith(message)
