"""Draw the built-in images: five yoga poses of an articulated human figure, from one seed.

    python data/samples/draw_yoga_figures.py [--seed 7] [--count 80] [--size 256] [--output FOLDER]

writes FOLDER/{downdog,goddess,plank,tree,warrior2}/001.jpg, 002.jpg, ...; with the defaults and the
locked Pillow these are the committed files, byte for byte. Each image has a random generator of its
own, `SeedSequence([seed, index of the class, number])`, so that any one can be drawn without the others.

The figure. World axes: x to the right, y up, z towards the viewer; metres. A pose (`POSES`) is a table
of the directions of the bones. A direction is (angle, towards) in degrees: `angle` turns in the plane of
the image, 0 to the right, 90 up; `towards` leans out of it to the viewer. One way of holding the trunk,
the arms and the legs is drawn from those that the pose lists, mixed a little with another one, and
jittered. Forward kinematics over a random build (stature, limb lengths, girth) give the joints; then the
whole figure is turned until its supports (hands, feet) are level, and put down on the floor. Limbs are
tapered capsules, dressed in a random outfit.

The image. A perspective camera of random tilt, height, distance and side looks at the figure, from
behind too. Floor and wall are found by casting a ray through each pixel; capsules are drawn with a depth
buffer, so that objects in front of the figure hide it. The background is bright and a little out of focus,
as with a portrait lens. Then follow exposure, contrast, tint, blur and sensor noise. Most images are
taken with care, some are not (`CAREFUL`, `CARELESS`): these keep the task from being solved completely.
Nothing but the table of directions depends on the class: background, outfit, build and camera do not.

All arithmetic is in float64: the last digit, which differs between processors, is far below the step of
an 8-bit colour.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from PIL import Image, ImageFilter

from drawing.camera import (
    CAREFUL,
    CARELESS,
    CARELESS_SHARE,
    Canvas,
    Manner,
    draw_camera,
    draw_capsule,
    draw_light,
    outlined,
)
from drawing.dress import Capsule, draw_outfit, dressed
from drawing.objects import draw_objects
from drawing.palette import Array
from drawing.poses import POSES, Pose
from drawing.scenery import SCENES, meet, shadowed, softened, with_mat
from drawing.skeleton import Build, Skeleton, assemble, draw_build, draw_posture, levelled, turn

SEED = 7
COUNT = 80
SIZE = 256  # side of an image, pixels
OUTPUT = Path(__file__).parent / "yoga_figures"
QUALITY = 80  # of the JPEGs
SUPERSAMPLING = 2  # each pixel is the mean of so many by so many


def pose_figure(pose: Pose, build: Build, rng: Generator) -> Skeleton:
    """Return a figure of the class, its supports level, in the middle of the floor plan."""
    skeleton = levelled(assemble(draw_posture(pose, rng), build, pose.frontal), pose.supports)
    points = np.array(list(skeleton.joints.values()))
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return skeleton.transformed(np.eye(3), -middle)


def draw_yaw(manner: Manner, rng: Generator) -> float:
    """Return the angle, degrees, by which the figure is turned away from the viewer; some show their back."""
    return float(rng.normal(0, manner.yaw) + (180 if rng.random() < 0.3 else 0))


def grounded(capsules: list[Capsule]) -> list[Capsule]:
    """Return the capsules moved up or down until the lowest one touches the floor."""
    ends = [
        (point[1], radius)
        for capsule in capsules
        for point, radius in zip((capsule.start, capsule.end), capsule.radii, strict=True)
    ]
    lift = np.array([0, -min(height - radius for height, radius in ends), 0])
    return [replace(capsule, start=capsule.start + lift, end=capsule.end + lift) for capsule in capsules]


def render(label: str, size: int, manner: Manner, rng: Generator) -> Array:
    """Return the scene as the lens shows it; (size, size, 3), 0 to 1."""
    build, yaw, light = draw_build(rng), draw_yaw(manner, rng), draw_light(rng)
    skeleton = pose_figure(POSES[label], build, rng).transformed(turn(yaw, 1), np.zeros(3))
    figure = grounded(dressed(skeleton, build, draw_outfit(rng)))
    camera = draw_camera(figure, manner, size, rng)
    scenery, nearest, farthest = SCENES[rng.integers(len(SCENES))]
    wall = rng.uniform(nearest, farthest)
    where, capsules = meet(camera, wall), figure + draw_objects(wall, manner.objects, rng)
    background = shadowed(with_mat(scenery(where, rng), where, yaw, rng), where, capsules, light)
    canvas = Canvas(softened(background, manner.haze), np.full((size, size), np.inf))
    for capsule in capsules:
        draw_capsule(canvas, capsule, camera, light)
    return outlined(canvas, 0.35)


def expose(colours: Array, tone: float, rng: Generator) -> Array:
    """Return the colours as a camera would: exposure, contrast, tint, saturation and a darker rim."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, side) for side in colours.shape[:2]], indexing="ij")
    rim = 1 - rng.uniform(0, 0.3) * (x**2 + y**2) / 2
    shot = colours * rng.uniform(0.72, 1.22) * rng.normal(1, 0.05, 3) * rim[..., None]
    shot = 0.5 + (shot - 0.5) * rng.uniform(0.65, 1.2) + rng.uniform(-0.05, 0.08)
    grey = shot.mean(axis=2, keepdims=True)
    shot = grey + (shot - grey) * rng.uniform(0.5, 1.1)
    return np.asarray(colours + tone * (shot - colours))


def develop(colours: Array, tone: float, rng: Generator) -> Image.Image:
    """Return the finished image: scaled down, blurred, with sensor noise."""
    image = Image.fromarray(np.rint(np.clip(expose(colours, tone, rng), 0, 1) * 255).astype(np.uint8))
    image = image.reduce(SUPERSAMPLING)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.choice([0.0, 0.4, 0.8, 1.4], p=[0.5, 0.3, 0.15, 0.05]))))
    shape = (image.height, image.width)
    grain = rng.normal(0, rng.uniform(0.5, 4), shape)[..., None] + rng.normal(0, rng.uniform(0, 2), (*shape, 3))
    return Image.fromarray(np.rint(np.clip(np.asarray(image) + grain, 0, 255)).astype(np.uint8))


def draw_image(label: str, number: int, seed: int = SEED, size: int = SIZE) -> Image.Image:
    """Return image `number` of a class, `size` pixels wide and high."""
    rng = default_rng(SeedSequence([seed, list(POSES).index(label), number]))
    manner = CARELESS if rng.random() < CARELESS_SHARE else CAREFUL
    colours = render(label, size * SUPERSAMPLING, manner, rng)
    if rng.random() < 0.5:
        colours = colours[:, ::-1]
    return develop(colours, manner.tone, rng)


def save(image: Image.Image, path: Path) -> None:
    """Write the image as a JPEG without any metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=QUALITY, optimize=True)


def main() -> None:
    """Draw all images of all classes."""
    parser = argparse.ArgumentParser(description="Draw the built-in images: five yoga poses, from one seed.")
    parser.add_argument("--seed", type=int, default=SEED, help="of everything random (default %(default)s)")
    parser.add_argument("--count", type=int, default=COUNT, help="images of each class (default %(default)s)")
    parser.add_argument("--size", type=int, default=SIZE, help="side of an image, pixels (default %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder (default: yoga_figures beside this file)")
    options = parser.parse_args()
    for label in POSES:
        for number in range(1, options.count + 1):
            image = draw_image(label, number, options.seed, options.size)
            save(image, options.output / label / f"{number:03d}.jpg")


if __name__ == "__main__":
    main()
