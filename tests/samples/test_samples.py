"""The built-in images: what is in git is what the program draws, and it is small and complete."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import draw_yoga_figures as program

PROGRAM = Path(__file__).parents[2] / "data" / "samples" / "draw_yoga_figures.py"
IMAGES = PROGRAM.parent / "yoga_figures"
LABELS = ["downdog", "goddess", "plank", "tree", "warrior2"]


@pytest.mark.parametrize(("label", "number"), [(label, 1 + 19 * index) for index, label in enumerate(LABELS)])
def test_a_committed_image_is_drawn_again_byte_for_byte(tmp_path: Path, label: str, number: int) -> None:
    program.save(program.draw_image(label, number), tmp_path / "again.jpg")
    assert (tmp_path / "again.jpg").read_bytes() == (IMAGES / label / f"{number:03d}.jpg").read_bytes()


def test_the_classes_are_the_five_poses() -> None:
    assert sorted(folder.name for folder in IMAGES.iterdir()) == LABELS == list(program.POSES)


def test_each_class_holds_the_same_number_of_images_and_nothing_else() -> None:
    expected = [f"{number:03d}.jpg" for number in range(1, program.COUNT + 1)]
    assert 60 <= program.COUNT <= 100
    for label in LABELS:
        assert sorted(file.name for file in (IMAGES / label).iterdir()) == expected


def test_the_images_take_at_most_four_megabytes() -> None:
    assert sum(file.stat().st_size for file in IMAGES.rglob("*.jpg")) <= 4_000_000


def test_all_images_decode_and_none_is_there_twice() -> None:
    seen = set()
    for file in IMAGES.rglob("*.jpg"):
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (program.SIZE, program.SIZE))
            seen.add(image.tobytes())
    assert len(seen) == len(LABELS) * program.COUNT


def test_another_seed_or_number_draws_another_image() -> None:
    draws = [(1, 7), (2, 7), (1, 8)]
    drawn = [np.asarray(program.draw_image("tree", number, seed, size=48)) for number, seed in draws]
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_the_supports_of_a_figure_are_level_and_it_stands_on_the_floor() -> None:
    for label, pose in program.POSES.items():
        rng = np.random.default_rng(list(map(ord, label)))
        build = program.draw_build(rng)
        skeleton = program.pose_figure(pose, build, rng)
        figure = program.grounded(program.dressed(skeleton, build, program.draw_outfit(rng)))
        lowest = min(min(c.start[1] - c.radii[0], c.end[1] - c.radii[1]) for c in figure)
        heights = [np.mean([skeleton.joints[name][1] for name in names]) for names in pose.supports]
        assert lowest == pytest.approx(0)
        assert np.ptp(heights or [0]) == pytest.approx(0)


def test_the_command_line_draws_the_files_of_all_classes(tmp_path: Path) -> None:
    arguments = ["--seed", "3", "--count", "1", "--size", "32", "--output", str(tmp_path)]
    subprocess.run([sys.executable, PROGRAM, *arguments], check=True)
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.*")) == [
        str(Path(label, "001.jpg")) for label in LABELS
    ]
