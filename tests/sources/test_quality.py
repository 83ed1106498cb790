"""Scores are low for what is wrong with an image, and those of cleanvision itself for small images."""

from pathlib import Path

import numpy as np
import pytest
from cleanvision import Imagelab
from PIL import Image

from stages.sources.quality import SCORES, score

# Below these cleanvision itself calls an image dark, light and so on.
THRESHOLDS = {"dark": 0.32, "light": 0.05, "blurry": 0.29, "low_information": 0.3, "odd_aspect_ratio": 0.35}


def scene(tiles: int = 12, resampling: Image.Resampling = Image.Resampling.NEAREST) -> Image.Image:
    noise = np.random.default_rng(8).integers(0, 256, (tiles, tiles, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((120, 120), resampling)


IMAGES = {
    "": scene(),
    "dark": scene().point(lambda level: level // 6),
    "light": scene().point(lambda level: 246 + level // 28),
    # All grey levels and no edge: what a lens far out of focus shows.
    "blurry": scene(3, Image.Resampling.BICUBIC),
    "low_information": Image.new("RGB", (100, 100), (128, 128, 128)),
    "odd_aspect_ratio": scene().resize((120, 36)),
}


def scored(*images: Image.Image) -> dict[str, list[float]]:
    return {name: list(values) for name, values in zip(SCORES, zip(*map(score, images), strict=True), strict=True)}


@pytest.mark.parametrize("fault", list(THRESHOLDS))
def test_a_fault_shows_in_its_score(fault: str) -> None:
    sound, faulty = scored(IMAGES[""], IMAGES[fault])[fault]
    assert faulty < THRESHOLDS[fault] < sound


def test_small_images_have_the_scores_that_cleanvision_gives(tmp_path: Path) -> None:
    for name, image in IMAGES.items():
        image.save(tmp_path / f"{name or 'sound'}.png")
    lab = Imagelab(data_path=str(tmp_path))
    lab.find_issues({name: {} for name in SCORES}, n_jobs=1, verbose=False)
    expected = {Path(path).stem: row for path, row in lab.issues.iterrows()}
    found = scored(*IMAGES.values())
    for row, name in enumerate(IMAGES):
        for kind in SCORES:
            assert found[kind][row] == pytest.approx(expected[name or "sound"][f"{kind}_score"]), (name, kind)


def test_a_large_image_scores_as_a_small_one_does() -> None:
    small, large = scene(), scene().resize((1200, 1200), Image.Resampling.NEAREST)
    for first, second in scored(small, large).values():
        assert first == pytest.approx(second, abs=0.05)


def test_the_shape_is_that_of_the_image_and_not_of_what_is_measured() -> None:
    assert scored(Image.new("RGB", (4000, 40)))["odd_aspect_ratio"] == [pytest.approx(0.01)]
