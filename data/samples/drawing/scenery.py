"""Backgrounds: the colours of floor and wall where the rays meet them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from drawing.camera import Camera, Light
from drawing.dress import Capsule
from drawing.palette import FABRICS, FLOORS, GROUNDS, HAIRS, SANDS, WALLS, Array, choose, rgb


@dataclass(frozen=True)
class Surround:
    """Where each pixel's ray ends: on the floor at (x, z) or on the wall at (x, y); metres."""

    is_floor: NDArray[np.bool_]
    x: Array
    y: Array
    z: Array


Scenery = Callable[[Surround, Generator], Array]


def meet(camera: Camera, wall: float) -> Surround:
    """Return where the rays meet the floor (y = 0) or the wall (z = -wall)."""
    rays = camera.rays()
    to_wall = (camera.position[2] + wall) / np.maximum(-rays[..., 2], 1e-3)
    to_floor = camera.position[1] / np.maximum(-rays[..., 1], 1e-6)
    is_floor = to_floor < to_wall
    x, y, z = np.moveaxis(camera.position + np.minimum(to_floor, to_wall)[..., None] * rays, -1, 0)
    return Surround(is_floor, x, np.where(is_floor, 0.0, y), z)


def noise(x: Array, y: Array, rng: Generator) -> Array:
    """Return smooth noise, 0 to 1, that varies over a distance of 1 (value noise, repeating after 64)."""
    table = rng.random((64, 64))
    column, row = np.floor(x), np.floor(y)
    right, down = x - column, y - row
    right, down = right * right * (3 - 2 * right), down * down * (3 - 2 * down)
    i, j = row.astype(int) % 64, column.astype(int) % 64
    above = table[i, j] * (1 - right) + table[i, (j + 1) % 64] * right
    below = table[(i + 1) % 64, j] * (1 - right) + table[(i + 1) % 64, (j + 1) % 64] * right
    return np.asarray(above * (1 - down) + below * down)


def between(low: Array, high: Array, share: Array) -> Array:
    """Return colours between two, by a share (height, width) of 0 to 1."""
    return low + np.clip(share, 0, 1)[..., None] * (high - low)


def planks(where: Surround, rng: Generator) -> Array:
    """Return a floor of boards."""
    colour, width = choose(rng, FLOORS), rng.uniform(0.09, 0.2)
    across, along = (where.x, where.z) if rng.random() < 0.5 else (where.z, where.x)
    board = np.floor(across / width)
    tone = noise(board * 7.3, np.floor(along / 1.4 + board * 0.37) * 5.1, rng)
    grain = noise(across * 60, along * 2.5, rng)
    gap = np.abs(across / width - board - 0.5) > 0.47
    return np.asarray(colour * (0.82 + 0.22 * tone + 0.08 * grain - 0.2 * gap)[..., None])


def tiles(where: Surround, rng: Generator) -> Array:
    """Return a floor of square tiles, in one colour or like a chessboard."""
    colour, side = choose(rng, FLOORS), rng.uniform(0.3, 0.6)
    column, row = where.x / side, where.z / side
    chess = (np.floor(column) + np.floor(row)) % 2 * rng.choice([0.0, 0.22])
    joint = (np.abs(column % 1 - 0.5) > 0.47) | (np.abs(row % 1 - 0.5) > 0.47)
    return np.asarray(colour * (0.98 - chess - 0.15 * joint)[..., None])


def carpet(where: Surround, rng: Generator) -> Array:
    """Return a floor of one soft colour."""
    colour = choose(rng, WALLS + FLOORS)
    return np.asarray(colour * (0.85 + 0.12 * noise(where.x * 3, where.z * 3, rng))[..., None])


def studio(where: Surround, rng: Generator) -> Array:
    """Return a backdrop without an edge: a paper that bends from the wall to the floor."""
    colour = choose(rng, WALLS + SANDS, 0.06)
    spot = rng.uniform(-1.0, 1.0)
    glow = np.exp(-((where.x - spot) ** 2 / 4 + (where.y - 1) ** 2 / 3))
    shade = np.where(where.is_floor, 0.78 + 0.1 * np.tanh(where.z + 1.2), 0.66 + 0.06 * where.y)
    return np.asarray(np.clip(colour * (shade + 0.3 * glow)[..., None], 0, 1))


def room(where: Surround, rng: Generator) -> Array:
    """Return a room: a floor, a wall with a skirting board, and some things on the wall."""
    floor = (planks, planks, tiles, carpet)[rng.integers(4)](where, rng)
    wall = between(
        choose(rng, WALLS), choose(rng, WALLS), np.array(rng.random() < 0.3) * (where.y > rng.uniform(0.8, 1.3))
    )
    wall = wall * (0.84 + 0.1 * noise(where.x * 0.7, where.y * 0.7, rng) + 0.03 * where.y)[..., None]
    wall = np.where((where.y < rng.uniform(0.06, 0.16))[..., None], choose(rng, WALLS), wall)
    for _ in range(rng.integers(0, 5)):
        thing = (window, frame, frame, stripe, doorway)[rng.integers(5)]
        wall = thing(wall, where, rng)
    return np.where(where.is_floor[..., None], floor, np.clip(wall, 0, 1))


def inside(where: Surround, left: float, low: float, size: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which places of the wall lie in the rectangle of this (width, height)."""
    width, height = size
    return np.asarray((where.x > left) & (where.x < left + width) & (where.y > low) & (where.y < low + height))


def window(wall: Array, where: Surround, rng: Generator) -> Array:
    """Return the wall with a window that shows sky and greenery."""
    width, height = rng.uniform(0.7, 1.6), rng.uniform(0.8, 1.5)
    left, low = rng.uniform(-2.6, 2.0), rng.uniform(0.5, 1.0)
    hedge = low + height * (0.25 + 0.3 * noise(where.x * 3, where.x * 0, rng))
    view = np.where(
        (where.y < hedge)[..., None], choose(rng, GROUNDS), between(rgb("e9f1f6"), rgb("a9cbe6"), where.y - low)
    )
    bars = (np.abs((where.x - left) % (width / 2) - width / 4) > width / 4 - 0.03) | (
        np.abs(where.y - low - height / 2) < 0.02
    )
    view = np.where(bars[..., None], rgb("f2f0ea") * rng.uniform(0.3, 1), view)
    return np.where(inside(where, left, low, (width, height))[..., None], view, wall)


def frame(wall: Array, where: Surround, rng: Generator) -> Array:
    """Return the wall with an image in a frame, or a mirror, or a poster."""
    width, height = rng.uniform(0.25, 0.9, 2)
    left, low, rim = rng.uniform(-2.4, 2.2), rng.uniform(0.6, 1.6), rng.uniform(0.01, 0.05)
    paint = between(choose(rng, FABRICS), choose(rng, WALLS), noise(where.x * 4, where.y * 4, rng))
    wall = np.where(inside(where, left, low, (width, height))[..., None], choose(rng, HAIRS + WALLS), wall)
    return np.where(inside(where, left + rim, low + rim, (width - 2 * rim, height - 2 * rim))[..., None], paint, wall)


def stripe(wall: Array, where: Surround, rng: Generator) -> Array:
    """Return the wall with a horizontal rail or shelf."""
    low, thick = rng.uniform(0.7, 1.7), rng.uniform(0.02, 0.08)
    left, width = rng.uniform(-2.5, 1.0), rng.uniform(0.8, 3.0)
    return np.where(inside(where, left, low, (width, thick))[..., None], choose(rng, FLOORS), wall)


def doorway(wall: Array, where: Surround, rng: Generator) -> Array:
    """Return the wall with a door, a curtain or a cupboard that stands on the floor."""
    left, width = rng.uniform(-2.6, 1.8), rng.uniform(0.4, 1.0)
    folds = 0.9 + 0.12 * np.sin(where.x * rng.uniform(8, 60))
    return np.where(
        inside(where, left, 0, (width, rng.uniform(0.8, 2.3)))[..., None],
        choose(rng, WALLS + FLOORS) * folds[..., None],
        wall,
    )


def sky(where: Surround, rng: Generator) -> Array:
    """Return a sky with clouds over the far end of the ground."""
    low, high = rgb("e6eef2") * rng.uniform(0.8, 1), rgb("6fa6d8") * rng.uniform(0.6, 1.1)
    colours = between(low, np.clip(high, 0, 1), where.y / 5)
    clouds = noise(where.x * 0.35, where.y * 0.9, rng) + 0.4 * noise(where.x, where.y * 2, rng)
    return between(colours, rgb("f4f4f2"), (clouds - 0.75) * rng.uniform(0, 2.5))


def park(where: Surround, rng: Generator) -> Array:
    """Return a meadow in front of trees."""
    patches = noise(where.x * 1.3, where.z * 1.3, rng) + 0.6 * noise(where.x * 9, where.z * 9, rng)
    ground = between(0.7 * choose(rng, GROUNDS), choose(rng, GROUNDS), patches / 1.4)
    back, leaves = sky(where, rng), choose(rng, GROUNDS)
    edge = (
        1.2 + rng.uniform(0, 2.5) * noise(where.x * 0.5, where.x * 0, rng) + 0.5 * noise(where.x * 3, where.y * 3, rng)
    )
    shade = 0.5 + 0.35 * noise(where.x * 2.5, where.y * 2.5, rng)
    back = np.where((where.y < edge)[..., None], leaves * shade[..., None], back)
    for _ in range(rng.integers(0, 4)):
        back = tree_in_park(back, where, rng)
    return np.where(where.is_floor[..., None], ground, back)


def tree_in_park(back: Array, where: Surround, rng: Generator) -> Array:
    """Return the background with one tree in front of it."""
    x, top, radius = rng.uniform(-5, 5), rng.uniform(2, 4.5), rng.uniform(0.8, 2.0)
    back = np.where(
        ((np.abs(where.x - x) < 0.16) & (where.y < top))[..., None], rgb("5a4330") * rng.uniform(0.6, 1.3), back
    )
    ragged = np.hypot(where.x - x, where.y - top) + 0.5 * noise(where.x * 3, where.y * 3, rng)
    leaves = choose(rng, GROUNDS) * (0.55 + 0.4 * noise(where.x * 4, where.y * 4, rng))[..., None]
    return np.where((ragged < radius)[..., None], leaves, back)


def beach(where: Surround, rng: Generator) -> Array:
    """Return sand, sea and sky."""
    shore = -rng.uniform(1.4, 5.0) + 0.3 * noise(where.x * 0.6, where.x * 0, rng)
    grains = 0.86 + 0.1 * noise(where.x * 5, where.z * 8, rng) + 0.06 * noise(where.x * 25, where.z * 25, rng)
    sand = choose(rng, SANDS) * grains[..., None]
    waves = noise(where.x * 0.7, where.z * 3, rng)
    water = between(rgb("2f6f8f") * rng.uniform(0.6, 1.3), rgb("a9d3d6"), waves * 0.8 + 0.2 * (where.z > shore - 0.3))
    ground = np.where((where.z < shore)[..., None], np.clip(water, 0, 1), sand)
    return np.where(where.is_floor[..., None], ground, sky(where, rng))


# Scenery and the distance of its wall: least and most, metres.
SCENES: tuple[tuple[Scenery, float, float], ...] = (
    (studio, 1.5, 3.0),
    (room, 1.2, 2.8),
    (room, 1.2, 2.8),
    (park, 9.0, 14.0),
    (beach, 14.0, 25.0),
)


def with_mat(colours: Array, where: Surround, yaw: float, rng: Generator) -> Array:
    """Return the background with a mat on the floor, roughly along the figure; one in four has none."""
    angle = np.radians(yaw + rng.normal(0, 8))
    x, z = where.x - rng.normal(0, 0.12), where.z - rng.normal(0, 0.06)
    along, across = np.cos(angle) * x - np.sin(angle) * z, np.sin(angle) * x + np.cos(angle) * z
    length, width = rng.uniform(0.85, 1.05), rng.uniform(0.3, 0.42)
    on_mat = where.is_floor & (np.abs(along) < length) & (np.abs(across) < width)
    rim = (np.abs(along) > length - 0.04) | (np.abs(across) > width - 0.03)
    cloth = np.where(rim[..., None], 0.86, 1.0) * choose(rng, FABRICS)
    return np.where((on_mat & (rng.random() < 0.75))[..., None], cloth, colours)


def softened(colours: Array, haze: float) -> Array:
    """Return the background bright and out of focus, as a portrait lens shows it."""
    image = Image.fromarray(np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(image.width / 170)), dtype=float) / 255
    return np.asarray(blurred + haze * (rgb("dbd9d4") - blurred))


def shadowed(colours: Array, where: Surround, capsules: list[Capsule], light: Light) -> Array:
    """Return the background with the shadow that the capsules throw on the floor."""
    metres, scale = 3.0, 64
    image = Image.new("L", (int(2 * metres * scale),) * 2)
    pen = ImageDraw.Draw(image)
    for capsule in capsules:
        for share in np.linspace(0, 1, 7):
            x, y, z = capsule.start + share * (capsule.end - capsule.start)
            radius = capsule.radii[0] + share * (capsule.radii[1] - capsule.radii[0])
            foot = np.array([x, z]) - y * light.direction[[0, 2]] / light.direction[1]
            low, high = (foot - radius + metres) * scale, (foot + radius + metres) * scale
            pen.ellipse((*low.tolist(), *high.tolist()), fill=255)
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(light.soft * scale)), dtype=float) / 255
    column, row = (np.clip((place + metres) * scale, 0, image.width - 1).astype(int) for place in (where.x, where.z))
    return np.asarray(colours * (1 - light.strong * np.where(where.is_floor, blurred[row, column], 0))[..., None])
