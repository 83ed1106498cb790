"""Objects that stand about."""

import numpy as np
from numpy.random import Generator

from drawing.dress import Capsule, draw_fabric, plain
from drawing.palette import FABRICS, FLOORS, GROUNDS, HAIRS, WALLS, Array, choose
from drawing.poses import Direction
from drawing.skeleton import above, turn, unit


def ball(place: Array, rng: Generator) -> list[Capsule]:
    """Return an exercise ball."""
    radius = rng.uniform(0.1, 0.36)
    centre = above(place, radius)
    return [Capsule(centre, centre, (radius, radius), draw_fabric(rng))]


def plant(place: Array, rng: Generator) -> list[Capsule]:
    """Return a plant in a pot."""
    height, leaf = rng.uniform(0.25, 0.5), plain(choose(rng, GROUNDS))
    top = above(place, height)
    leaves = [top + (0.3 * height + 0.25) * unit(Direction(*rng.uniform((20, -60), (160, 60)))) for _ in range(9)]
    pot = Capsule(above(place, 0.12), top, (0.1, 0.14), plain(choose(rng, WALLS + FLOORS)))
    return [pot, *(Capsule(top, tip, (0.02, 0.06), leaf) for tip in leaves)]


def lamp(place: Array, rng: Generator) -> list[Capsule]:
    """Return a floor lamp."""
    height, metal = rng.uniform(1.1, 1.8), plain(choose(rng, HAIRS))
    top = above(place, height)
    shade = Capsule(top, above(top, -0.18), (0.1, 0.17), plain(choose(rng, WALLS)))
    return [Capsule(place, top, (0.02, 0.015), metal), Capsule(place, place, (0.09, 0.09), metal), shade]


def bolster(place: Array, rng: Generator) -> list[Capsule]:
    """Return a bolster or a rolled-up mat that lies on the floor."""
    radius, half = rng.uniform(0.06, 0.13), rng.uniform(0.15, 0.4)
    way = half * (turn(rng.uniform(0, 180), 1) @ np.array([1.0, 0.0, 0.0]))
    centre = above(place, radius)
    return [Capsule(centre - way, centre + way, (radius, radius), draw_fabric(rng))]


def bottle(place: Array, rng: Generator) -> list[Capsule]:
    """Return a bottle."""
    body, neck = above(place, 0.05), above(place, 0.2)
    cap = Capsule(neck, above(neck, 0.06), (0.03, 0.02), plain(choose(rng, FABRICS)))
    return [Capsule(body, neck, (0.05, 0.045), plain(choose(rng, FABRICS))), cap]


def post(place: Array, rng: Generator) -> list[Capsule]:
    """Return a post, as of a fence or a ballet rail."""
    radius, top = rng.uniform(0.025, 0.07), above(place, rng.uniform(0.6, 2.4))
    return [Capsule(place, top, (radius, radius), plain(choose(rng, FLOORS + HAIRS)))]


OBJECTS = (ball, plant, lamp, bolster, bottle, post)


def draw_objects(wall: float, probability: float, rng: Generator) -> list[Capsule]:
    """Return things behind and beside the figure and, in one image of four, one in front of it."""
    capsules: list[Capsule] = []
    if rng.random() > probability:
        return capsules
    for _ in range(rng.integers(1, 4)):
        place = np.array([rng.uniform(-1.8, 1.8), 0, rng.uniform(-min(wall, 2.2) + 0.3, -0.5)])
        capsules += OBJECTS[rng.integers(len(OBJECTS))](place, rng)
    if rng.random() < 0.25:
        place = np.array([rng.uniform(-0.8, 0.8), 0, rng.uniform(0.6, 1.1)])
        capsules += OBJECTS[rng.integers(len(OBJECTS))](place, rng)
    return capsules
