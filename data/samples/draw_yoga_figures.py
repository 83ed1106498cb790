"""Draw the built-in pictures: five yoga poses of an articulated human figure, from one seed.

    python data/samples/draw_yoga_figures.py [--seed 7] [--count 80] [--size 256] [--output FOLDER]

writes FOLDER/{downdog,goddess,plank,tree,warrior2}/001.jpg, 002.jpg, ...; with the defaults and the
locked Pillow these are the committed files, byte for byte. Each picture has a random generator of its
own, `SeedSequence([seed, index of the class, number])`, so that any one can be drawn without the others.

The figure. World axes: x to the right, y up, z towards the viewer; metres. A pose (`POSES`) is a table
of the directions of the bones. A direction is (angle, towards) in degrees: `angle` turns in the plane of
the picture, 0 to the right, 90 up; `towards` leans out of it to the viewer. One way of holding the trunk,
the arms and the legs is drawn from those that the pose lists, mixed a little with another one, and
jittered. Forward kinematics over a random build (stature, limb lengths, girth) give the joints; then the
whole figure is turned until its supports (hands, feet) are level, and put down on the floor. Limbs are
tapered capsules, dressed in a random outfit.

The picture. A perspective camera of random tilt, height, distance and side looks at the figure, from
behind too. Floor and wall are found by casting a ray through each pixel; capsules are drawn with a depth
buffer, so that objects in front of the figure hide it. The background is bright and a little out of focus,
as with a portrait lens. Then follow exposure, contrast, tint, blur and sensor noise. Most pictures are
taken with care, some are not (`CAREFUL`, `CARELESS`): these keep the task from being solved completely.
Nothing but the table of directions depends on the class: background, outfit, build and camera do not.

All arithmetic is in float64: the last digit, which differs between processors, is far below the step of
an 8-bit colour.
"""

# The measures of a drawing are named by the sentence that they stand in.

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.float64]
Colour = Sequence[float]  # red, green, blue, each 0 to 1

SEED = 7
COUNT = 80
SIZE = 256  # side of a picture, pixels
OUTPUT = Path(__file__).parent / "yoga_figures"
QUALITY = 80  # of the JPEGs
SUPERSAMPLING = 2  # each pixel is the mean of so many by so many


# Poses: directions of bones, (angle, towards) in degrees.
class Direction(NamedTuple):
    """Where a bone points: `angle` in the picture plane from right to up, `towards` the viewer; degrees."""

    angle: float
    towards: float = 0.0


class Limb(NamedTuple):
    """An arm (upper arm, forearm, hand) or a leg (thigh, shin, foot)."""

    upper: Direction
    lower: Direction
    end: Direction


class Trunk(NamedTuple):
    """Pelvis to waist, waist to shoulders, shoulders to head, and where the face looks."""

    spine: Direction
    chest: Direction
    neck: Direction
    face: Direction


class Limbs(NamedTuple):
    """Both arms, or both legs."""

    left: Limb
    right: Limb


@dataclass(frozen=True)
class Pose:
    """What the figures of one class have in common; of trunks, arms and legs one each is drawn.

    `frontal`: shoulders and hips lie along x, else along z (seen from the side). `supports`: the joints
    that stand on the floor, those on the left and those on the right; () where one foot carries all.
    """

    frontal: bool
    supports: tuple[tuple[str, ...], ...]
    trunks: tuple[Trunk, ...]
    arms: tuple[Limbs, ...]
    legs: tuple[Limbs, ...]


def limb(upper: tuple[float, float], lower: tuple[float, float], end: tuple[float, float]) -> Limb:
    """Return a limb from three pairs of (angle, towards)."""
    return Limb(Direction(*upper), Direction(*lower), Direction(*end))


def mirrored(left: Limb) -> Limb:
    """Return the limb of the other side of a frontal figure."""
    return Limb(*(Direction(180 - bone.angle, bone.towards) for bone in left))


def symmetric(left: Limb) -> Limbs:
    """Return both limbs of a frontal figure."""
    return Limbs(left, mirrored(left))


def parallel(one: Limb) -> Limbs:
    """Return both limbs of a figure seen from the side."""
    return Limbs(one, one)


UPRIGHT = Trunk(Direction(90), Direction(90), Direction(90, 8), Direction(0, 85))
LOOKING_LEFT = Trunk(Direction(90), Direction(90), Direction(88), Direction(0, 15))
PRAYER = symmetric(limb((-82, 8), (152, 24), (110, 20)))
OVERHEAD = symmetric(limb((101, -4), (113, 2), (92, 0)))
OPEN_V = symmetric(limb((58, 0), (64, 0), (62, 0)))
LEVEL = symmetric(limb((0, 0), (0, 0), (0, 0)))
CACTUS = symmetric(limb((2, 5), (86, 8), (88, 0)))
ON_THIGHS = symmetric(limb((-52, 8), (-72, 30), (-60, 30)))
STRAIGHT_ARMS_DOWN = parallel(limb((-91, 0), (-91, 0), (180, 0)))
ON_FOREARMS = parallel(limb((-92, 0), (178, 0), (180, 0)))
STANDING = limb((-92, 0), (-91, 0), (-140, 70))

POSES: dict[str, Pose] = {
    "downdog": Pose(
        frontal=False,
        supports=(("left_fingers", "right_fingers"), ("left_toes", "right_toes")),
        trunks=(
            Trunk(Direction(-135), Direction(-138), Direction(-122), Direction(-32)),
            Trunk(Direction(-142), Direction(-134), Direction(-150), Direction(-60)),
        ),
        arms=(parallel(limb((-140, 0), (-142, 0), (180, 0))), parallel(limb((-134, 0), (-138, 0), (180, 0)))),
        legs=(
            parallel(limb((-61, 0), (-62, 0), (-178, 0))),
            parallel(limb((-70, 0), (-54, 0), (-160, 0))),
            parallel(limb((-54, 0), (-56, 0), (-165, 0))),
        ),
    ),
    "goddess": Pose(
        frontal=True,
        supports=(("right_toes",), ("left_toes",)),
        trunks=(UPRIGHT, Trunk(Direction(90, 6), Direction(90, 10), Direction(90, 12), Direction(-20, 80))),
        arms=(CACTUS, CACTUS, OPEN_V, LEVEL, PRAYER, OVERHEAD, ON_THIGHS),
        legs=(
            symmetric(limb((-14, 20), (-90, -4), (-8, 42))),
            symmetric(limb((-34, 22), (-84, -6), (-10, 42))),
        ),
    ),
    "plank": Pose(
        frontal=False,
        supports=(("left_fingers", "right_fingers"), ("left_toes", "right_toes")),
        trunks=(
            Trunk(Direction(166), Direction(168), Direction(172), Direction(-100)),
            Trunk(Direction(158), Direction(174), Direction(-175), Direction(-70)),
            Trunk(Direction(172), Direction(160), Direction(160), Direction(-130)),
        ),
        arms=(STRAIGHT_ARMS_DOWN, STRAIGHT_ARMS_DOWN, ON_FOREARMS),
        legs=(parallel(limb((-13, 0), (-14, 0), (-82, 0))), parallel(limb((-20, 0), (-12, 0), (-88, 0)))),
    ),
    "tree": Pose(
        frontal=True,
        supports=(),
        trunks=(UPRIGHT, Trunk(Direction(94), Direction(88), Direction(90, 4), Direction(20, 75))),
        arms=(PRAYER, PRAYER, OVERHEAD, OVERHEAD, OPEN_V, LEVEL),
        legs=(
            Limbs(limb((-42, 16), (-176, -18), (-110, -8)), STANDING),
            Limbs(limb((-50, 18), (-166, -20), (-105, -8)), STANDING),
            Limbs(limb((-62, 20), (-146, -22), (-95, 0)), STANDING),
        ),
    ),
    "warrior2": Pose(
        frontal=True,
        supports=(("right_toes",), ("left_toes",)),
        trunks=(LOOKING_LEFT, LOOKING_LEFT, UPRIGHT),
        arms=(LEVEL, LEVEL, LEVEL, symmetric(limb((12, 0), (16, 0), (10, 0)))),
        legs=(
            Limbs(limb((-16, 6), (-91, 0), (-2, 6)), limb((-139, 0), (-138, 0), (-150, 62))),
            Limbs(limb((-38, 6), (-82, 0), (-2, 6)), limb((-130, 0), (-130, 0), (-140, 62))),
        ),
    ),
}

# Standard deviations of the jitter of each bone, degrees.
TRUNK_JITTER = Trunk(*(Direction(angle, 0.8 * angle) for angle in (4.0, 5.0, 9.0, 16.0)))
ARM_JITTER = Limb(*(Direction(angle, angle) for angle in (6.0, 8.0, 12.0)))
LEG_JITTER = Limb(*(Direction(angle, 0.8 * angle) for angle in (4.5, 4.5, 9.0)))

SKINS = ("e3b596", "d6a27e", "c99069", "b47a55", "996243", "7d4d31", "613a25", "46291b")
HAIRS = ("1b1512", "2d1f16", "4a2f1c", "6e4524", "8f6230", "b08a4c", "77746f", "7c2f1a")
# Darker than most backgrounds, so that the figure stands out.
FABRICS = (
    *("1d1f24", "33363d", "4b4f58", "6d727a", "1f3a63", "265f8a", "3f8496", "1b5f51", "57743a", "8a9256"),
    *("c4972a", "c2641f", "b03526", "84223a", "a94e72", "683d7e", "8b6a9c", "76573d", "3a2746", "23403a"),
)
WALLS = ("e8e4da", "d9d3c7", "c9d2d2", "b9c4b5", "d6c2ae", "9aa7b0", "7d8b86", "b7a3a0", "5d6670", "efe9e4", "c58f6c")
FLOORS = ("c79f6b", "a9794a", "8a5c3a", "6a4a36", "b9b2a6", "8b8d8f", "5f6468", "d9cdb8", "9c6b52")
GROUNDS = ("6f8f3f", "58793a", "86994f", "4d6b45", "9a9550")
SANDS = ("dcc79c", "cdb38a", "c2a982", "e4d6b5")


def rgb(code: str) -> Array:
    """Return a colour written as six hexadecimal digits as red, green, blue, each 0 to 1."""
    return np.array([int(code[start : start + 2], 16) for start in (0, 2, 4)]) / 255


def choose(rng: Generator, codes: Sequence[str], spread: float = 0.04) -> Array:
    """Return one of the colours, a little changed."""
    return np.clip(rgb(codes[int(rng.integers(len(codes)))]) + rng.normal(0, spread, 3), 0, 1)


# The figure: from a pose to joints in space.
@dataclass(frozen=True)
class Build:
    """Proportions of a body: lengths in metres, `girth` relative to an average body."""

    stature: float
    leg: float
    arm: float
    trunk: float
    shoulders: float
    hips: float
    head: float
    girth: float


@dataclass(frozen=True)
class Posture:
    """The directions of all bones of one figure."""

    trunk: Trunk
    arms: Limbs
    legs: Limbs


@dataclass(frozen=True)
class Skeleton:
    """Joints by name, and the directions of face and shoulders; (3,) arrays, metres."""

    joints: dict[str, Array]
    face: Array
    across: Array

    def transformed(self, matrix: Array, shift: Array) -> "Skeleton":
        """Return the skeleton turned by the 3 by 3 `matrix`, then moved by `shift`."""
        joints = {name: matrix @ point + shift for name, point in self.joints.items()}
        return Skeleton(joints, matrix @ self.face, matrix @ self.across)


def draw_build(rng: Generator) -> Build:
    """Return the proportions of a random adult; shares of the stature after Drillis and Contini (1966)."""
    stature = rng.uniform(1.5, 1.9)
    leg, arm, trunk = stature * np.array([0.491, 0.332, 0.288]) * rng.normal(1, 0.04, 3)
    shoulders, hips, head = stature * np.array([0.108, 0.056, 0.062]) * rng.normal(1, 0.07, 3)
    return Build(stature, leg, arm, trunk, shoulders, hips, head, girth=rng.uniform(0.82, 1.32))


def draw_posture(pose: Pose, rng: Generator) -> Posture:
    """Return one posture of the class; some people are more exact than others."""
    sloppiness = rng.uniform(0.5, 1.8)
    trunk = jittered(mixed(pose.trunks, rng), TRUNK_JITTER, sloppiness, rng)
    arms = jittered_limbs(mixed_limbs(pose.arms, rng), ARM_JITTER, pose, sloppiness, rng)
    legs = jittered_limbs(mixed_limbs(pose.legs, rng), LEG_JITTER, pose, sloppiness, rng)
    return Posture(Trunk(*trunk), arms, legs)


def mixed(ways: Sequence[Sequence[Direction]], rng: Generator, share: float | None = None) -> list[Direction]:
    """Return one of the ways to hold some bones, mixed with at most a third of another one."""
    first, second = (ways[index] for index in rng.integers(len(ways), size=2))
    share = rng.uniform(0, 0.33) if share is None else share
    return [blended(one, other, share) for one, other in zip(first, second, strict=True)]


def blended(one: Direction, other: Direction, share: float) -> Direction:
    """Return a direction between two, by the shorter way round."""
    turn = (other.angle - one.angle + 180) % 360 - 180
    return Direction(one.angle + share * turn, one.towards + share * (other.towards - one.towards))


def mixed_limbs(ways: Sequence[Limbs], rng: Generator) -> Limbs:
    """Return one of the ways to hold both limbs, mixed with at most a third of another one."""
    bones = mixed([(*way.left, *way.right) for way in ways], rng)
    return Limbs(Limb(*bones[:3]), Limb(*bones[3:]))


def jittered(bones: Sequence[Direction], jitter: Sequence[Direction], amount: float, rng: Generator) -> list[Direction]:
    """Return the directions with noise; `amount` scales the standard deviations."""
    noise = rng.normal(0, amount, (len(bones), 2)) * np.array(jitter)
    return [Direction(*(bone + change)) for bone, change in zip(np.array(bones), noise, strict=True)]


def jittered_limbs(limbs: Limbs, jitter: Limb, pose: Pose, amount: float, rng: Generator) -> Limbs:
    """Return both limbs with noise, most of which they share: people are roughly symmetric."""
    shared = rng.normal(0, amount, (3, 2)) * np.array(jitter)
    mirror = np.array([-1 if pose.frontal else 1, 1])
    left, right = np.array(limbs.left) + shared, np.array(limbs.right) + mirror * shared
    sides = [jittered([Direction(*bone) for bone in side], jitter, 0.4 * amount, rng) for side in (left, right)]
    return Limbs(Limb(*sides[0]), Limb(*sides[1]))


def unit(direction: Direction) -> Array:
    """Return the vector of length 1 in this direction."""
    angle, towards = np.radians(direction)
    return np.array([np.cos(towards) * np.cos(angle), np.cos(towards) * np.sin(angle), np.sin(towards)])


def above(place: Array, height: float) -> Array:
    """Return the point so many metres above a place."""
    return np.asarray(place + np.array([0, height, 0]))


def turn(degrees: float, axis: int) -> Array:
    """Return the 3 by 3 rotation about axis 0 (x), 1 (y) or 2 (z)."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    first, second = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[[first, first, second, second], [first, second, first, second]] = cosine, -sine, sine, cosine
    return matrix


def assemble(posture: Posture, build: Build, frontal: bool) -> Skeleton:  # noqa: FBT001
    """Return the joints by forward kinematics from the pelvis, which is the origin."""
    across = unit(Direction(0)) if frontal else unit(Direction(0, 90))
    trunk = posture.trunk
    waist = 0.45 * build.trunk * unit(trunk.spine)
    chest = waist + 0.55 * build.trunk * unit(trunk.chest)
    crown = chest + (0.045 * build.stature + 1.25 * build.head) * unit(trunk.neck)
    joints = {"pelvis": np.zeros(3), "waist": waist, "chest": chest, "head": crown}
    for side, sign, arm, leg in zip(("left", "right"), (1, -1), posture.arms, posture.legs, strict=True):
        shoulder = chest + sign * build.shoulders * across - 0.03 * build.stature * unit(trunk.chest)
        joints |= arm_joints(side, shoulder, arm, build) | leg_joints(side, sign * build.hips * across, leg, build)
    return Skeleton(joints, unit(trunk.face), across)


def arm_joints(side: str, shoulder: Array, arm: Limb, build: Build) -> dict[str, Array]:
    """Return the joints of one arm, from the shoulder to the fingers."""
    elbow = shoulder + 0.55 * build.arm * unit(arm.upper)
    wrist = elbow + 0.45 * build.arm * unit(arm.lower)
    fingers = wrist + 0.075 * build.stature * unit(arm.end)
    return {f"{side}_shoulder": shoulder, f"{side}_elbow": elbow, f"{side}_wrist": wrist, f"{side}_fingers": fingers}


def leg_joints(side: str, hip: Array, leg: Limb, build: Build) -> dict[str, Array]:
    """Return the joints of one leg, from the hip to the toes."""
    knee = hip + 0.5 * build.leg * unit(leg.upper)
    ankle = knee + 0.5 * build.leg * unit(leg.lower)
    sole = ankle + 0.024 * build.stature * unit(leg.lower)
    heel, toes = sole - 0.022 * build.stature * unit(leg.end), sole + 0.1 * build.stature * unit(leg.end)
    names = ("hip", "knee", "ankle", "heel", "toes")
    return {f"{side}_{name}": point for name, point in zip(names, (hip, knee, ankle, heel, toes), strict=True)}


def levelled(skeleton: Skeleton, supports: tuple[tuple[str, ...], ...]) -> Skeleton:
    """Return the skeleton turned in the plane of the picture until its supports are equally high."""
    if not supports:
        return skeleton
    left, right = (np.mean([skeleton.joints[name] for name in names], axis=0) for names in supports)
    slope = np.degrees(np.arctan2(right[1] - left[1], right[0] - left[0]))
    return skeleton.transformed(turn(-slope, 2), np.zeros(3))


# The figure: from joints to dressed capsules.
@dataclass(frozen=True)
class Fabric:
    """A cloth: `pattern` is plain, rings, seam, dots or block, drawn in `accent`."""

    colour: Array
    accent: Array
    pattern: str = "plain"

    def at(self, along: Array, around: Array) -> Array:
        """Return the colours at `along` a limb (0 to 1) and `around` it (-1 to 1, 0 in the middle); (n, 3)."""
        marks: dict[str, Callable[[], NDArray[np.bool_]]] = {
            "plain": lambda: np.zeros(along.shape, dtype=bool),
            "rings": lambda: np.sin(along * 28) > 0.35,
            "seam": lambda: np.abs(around - 0.3) < 0.22,
            "dots": lambda: np.sin(along * 30) * np.sin(around * 9) > 0.45,
            "block": lambda: along > 0.55,
        }
        return np.where(marks[self.pattern]()[:, None], self.accent, self.colour)


@dataclass(frozen=True)
class Capsule:
    """A ball swept from `start` to `end` while its radius changes; `fabric` up to `cut`, then `beyond`."""

    start: Array
    end: Array
    radii: tuple[float, float]
    fabric: Fabric
    cut: float = 1.0
    beyond: Fabric | None = None

    def colours(self, along: Array, around: Array) -> Array:
        """Return the colours at these places of the surface; (n, 3)."""
        inner = self.fabric.at(along, around)
        if self.beyond is None:
            return inner
        return np.where((along <= self.cut)[:, None], inner, self.beyond.at(along, around))


@dataclass(frozen=True)
class Outfit:
    """Skin, hair and clothes. Sleeves and trouser legs: 0 none, 1 to elbow or knee, 2 to wrist or ankle."""

    skin: Fabric
    hair: Fabric
    top: Fabric
    bottom: Fabric
    feet: Fabric
    sleeves: float
    trousers: float
    cropped: bool
    hairstyle: str


def plain(colour: Array) -> Fabric:
    """Return a cloth, skin or material of one colour."""
    return Fabric(colour, colour)


def draw_fabric(rng: Generator) -> Fabric:
    """Return a random cloth; half of them are plain."""
    pattern = str(rng.choice(["plain", "rings", "seam", "dots", "block"], p=[0.5, 0.1, 0.15, 0.1, 0.15]))
    return Fabric(choose(rng, FABRICS), choose(rng, FABRICS), pattern)


def draw_outfit(rng: Generator) -> Outfit:
    """Return random skin, hair and clothes."""
    skin, top, bottom = plain(choose(rng, SKINS, 0.02)), draw_fabric(rng), draw_fabric(rng)
    return Outfit(
        skin=skin,
        hair=plain(choose(rng, HAIRS, 0.02)),
        top=top,
        bottom=top if rng.random() < 0.15 else bottom,
        feet=skin if rng.random() < 0.8 else plain(choose(rng, FABRICS)),
        sleeves=float(rng.choice([0.0, 0.15, 0.6, 1.0, 1.5, 2.0], p=[0.35, 0.15, 0.25, 0.05, 0.05, 0.15])),
        trousers=float(rng.choice([0.35, 0.7, 1.3, 1.7, 1.95], p=[0.15, 0.15, 0.15, 0.25, 0.3])),
        cropped=bool(rng.random() < 0.25),
        hairstyle=str(rng.choice(["short", "bun", "tail", "long", "bald"], p=[0.34, 0.24, 0.22, 0.14, 0.06])),
    )


def dressed(skeleton: Skeleton, build: Build, outfit: Outfit) -> list[Capsule]:
    """Return all capsules of the figure."""
    capsules = torso(skeleton, build, outfit) + head(skeleton, build, outfit)
    for side in ("left", "right"):
        capsules += arm(skeleton, side, build, outfit) + leg(skeleton, side, build, outfit)
    return capsules


def torso(skeleton: Skeleton, build: Build, outfit: Outfit) -> list[Capsule]:
    """Return hips, belly and chest."""
    joints, thick = skeleton.joints, build.stature * build.girth
    pelvis, waist, chest = joints["pelvis"], joints["waist"], joints["chest"]
    belly = outfit.skin if outfit.cropped else outfit.top
    hip_line = 0.85 * build.hips * skeleton.across
    waist_line, chest_line = 0.42 * build.hips * build.girth * skeleton.across, 0.52 * build.shoulders * skeleton.across
    rib = chest - 0.05 * build.stature * (chest - waist) / np.linalg.norm(chest - waist)
    capsules = [Capsule(pelvis - hip_line, pelvis + hip_line, (0.057 * thick, 0.057 * thick), outfit.bottom)]
    for sign in (-1, 0, 1):
        middle = waist + sign * waist_line
        capsules.append(
            Capsule(pelvis + sign * hip_line, middle, (0.054 * thick, 0.05 * thick), outfit.bottom, 0.55, belly)
        )
        capsules.append(Capsule(middle, rib + sign * chest_line, (0.05 * thick, 0.056 * thick), belly, 0.3, outfit.top))
    shoulders = [joints[f"{side}_shoulder"] for side in ("left", "right")]
    return capsules + [Capsule(chest, joint, (0.034 * thick, 0.031 * thick), outfit.top) for joint in shoulders]


def head(skeleton: Skeleton, build: Build, outfit: Outfit) -> list[Capsule]:
    """Return neck, head, eyes and hair."""
    joints, radius = skeleton.joints, build.head
    up = joints["head"] - joints["chest"]
    up = up / np.linalg.norm(up)
    face = skeleton.face - (skeleton.face @ up) * up
    face = face / np.linalg.norm(face)
    centre, side = joints["head"], np.cross(up, face)
    chin = centre - 0.62 * radius * up + 0.22 * radius * face
    thick = 0.026 * build.stature * np.sqrt(build.girth)
    capsules = [
        Capsule(joints["chest"] - 0.01 * up, centre - 0.5 * radius * up, (1.15 * thick, thick), outfit.skin),
        Capsule(centre, chin, (0.92 * radius, 0.62 * radius), outfit.skin),
    ]
    for sign in (-1, 1):
        eye = centre + radius * (0.82 * face + sign * 0.36 * side - 0.12 * up)
        capsules.append(Capsule(eye, eye, (0.1 * radius, 0.1 * radius), plain(rgb("2a1d18"))))
    return capsules + hair(centre, up, face, radius, outfit)


def hair(centre: Array, up: Array, face: Array, radius: float, outfit: Outfit) -> list[Capsule]:
    """Return the hair: a cap, and with some styles a bun, a tail or long hair, which hang down."""
    if outfit.hairstyle == "bald":
        return []
    cap, nape = centre + radius * (0.2 * up - 0.22 * face), centre - radius * (0.35 * up + 0.5 * face)
    capsules = [Capsule(cap, nape, (0.98 * radius, 0.6 * radius), outfit.hair)]
    back, down = centre + radius * (0.55 * up - 0.9 * face), np.array([0.0, -1.0, 0.0])
    if outfit.hairstyle == "bun":
        capsules.append(Capsule(back, back, (0.48 * radius, 0.48 * radius), outfit.hair))
    elif outfit.hairstyle == "tail":
        capsules.append(
            Capsule(back, back + radius * (1.9 * down - 0.5 * face), (0.34 * radius, 0.14 * radius), outfit.hair)
        )
    elif outfit.hairstyle == "long":
        capsules.append(
            Capsule(nape, nape + radius * (1.7 * down - 0.2 * face), (0.85 * radius, 0.5 * radius), outfit.hair)
        )
    return capsules


def covered(length: float, bone: int, fabric: Fabric, skin: Fabric) -> tuple[Fabric, float, Fabric]:
    """Return fabric, cut and what is beyond, for the first (0) or second (1) bone of a dressed limb."""
    share = min(max(length - bone, 0.0), 1.0)
    return (fabric, share, skin) if share else (skin, 1.0, skin)


def arm(skeleton: Skeleton, side: str, build: Build, outfit: Outfit) -> list[Capsule]:
    """Return shoulder, upper arm, forearm and hand."""
    shoulder, elbow, wrist, fingers = (
        skeleton.joints[f"{side}_{n}"] for n in ("shoulder", "elbow", "wrist", "fingers")
    )
    thick = build.stature * build.girth**0.8
    palm = wrist + 0.5 * (fingers - wrist)
    return [
        Capsule(shoulder, elbow, (0.031 * thick, 0.023 * thick), *covered(outfit.sleeves, 0, outfit.top, outfit.skin)),
        Capsule(elbow, wrist, (0.023 * thick, 0.0155 * thick), *covered(outfit.sleeves, 1, outfit.top, outfit.skin)),
        Capsule(wrist, palm, (0.0155 * thick, 0.019 * thick), outfit.skin),
        Capsule(palm, fingers, (0.018 * thick, 0.009 * thick), outfit.skin),
    ]


def leg(skeleton: Skeleton, side: str, build: Build, outfit: Outfit) -> list[Capsule]:
    """Return thigh, knee, calf, shin and foot."""
    names = ("hip", "knee", "ankle", "heel", "toes")
    hip, knee, ankle, heel, toes = (skeleton.joints[f"{side}_{name}"] for name in names)
    thick = build.stature * build.girth**0.9
    thigh, shin = (covered(outfit.trousers, bone, outfit.bottom, outfit.skin) for bone in (0, 1))
    calf = knee + 0.34 * (ankle - knee)
    upper = replace_cut(shin, 0.0, 0.34)
    lower = replace_cut(shin, 0.34, 1.0)
    return [
        Capsule(hip, knee, (0.053 * thick, 0.034 * thick), *thigh),
        Capsule(knee, calf, (0.032 * thick, 0.034 * thick), *upper),
        Capsule(calf, ankle, (0.034 * thick, 0.0195 * thick), *lower),
        Capsule(ankle, heel, (0.0195 * thick, 0.0185 * thick), outfit.feet),
        Capsule(heel, toes, (0.0185 * thick, 0.0145 * thick), outfit.feet),
    ]


def replace_cut(dress: tuple[Fabric, float, Fabric], start: float, end: float) -> tuple[Fabric, float, Fabric]:
    """Return the dress of the part of a bone between two shares of its length."""
    fabric, cut, beyond = dress
    share = (cut - start) / (end - start)
    return (fabric, share, beyond) if share > 0 else (beyond, 1.0, beyond)


# Camera, light and the drawing of capsules.
@dataclass(frozen=True)
class Manner:
    """How a picture is taken.

    `yaw`, `roll`: standard deviations of how far the figure is turned and the camera tilted, degrees;
    `pitch`: how far the camera looks down, degrees; `fill`: share of the picture that the figure spans;
    `shift`: how far from the middle, as a share of the room there is; `haze`: how much the background
    is washed out, 0 to 1; `objects`: probability that things stand about; `tone`: strength of the faults
    of exposure and colour, 0 to 1.
    """

    yaw: float
    roll: float
    pitch: tuple[float, float]
    fill: tuple[float, float]
    shift: float
    haze: float
    objects: float
    tone: float


CAREFUL = Manner(yaw=11, roll=3, pitch=(3, 13), fill=(0.8, 0.95), shift=0.3, haze=0.55, objects=0.35, tone=0.35)
CARELESS = Manner(yaw=30, roll=9, pitch=(2, 30), fill=(0.6, 0.95), shift=0.8, haze=0.35, objects=0.7, tone=0.8)
CARELESS_SHARE = 0.15


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. `axes`: rows right, up and forward; lengths in supersampled pixels."""

    position: Array
    axes: Array
    focal: float
    centre: Array
    size: int

    def project(self, point: Array) -> tuple[Array, float]:
        """Return the place in the picture (x, y from the upper left, pixels) and the depth in metres."""
        right, up, depth = self.axes @ (point - self.position)
        return self.centre + self.focal * np.array([right, -up]) / depth, float(depth)

    def rays(self) -> Array:
        """Return for each pixel the direction in which it looks; (size, size, 3), not of length 1."""
        across, down = np.meshgrid(np.arange(self.size) + 0.5, np.arange(self.size) + 0.5)
        right, up = (across - self.centre[0]) / self.focal, (self.centre[1] - down) / self.focal
        return np.stack([right, up, np.ones_like(right)], axis=-1) @ self.axes


@dataclass(frozen=True)
class Light:
    """`direction` to the light, length 1; `ambient` reaches everything, `strong` of shadows 0 to 1."""

    direction: Array
    ambient: float
    strong: float
    soft: float


@dataclass
class Canvas:
    """The picture while it is drawn: colours (height, width, 3), 0 to 1, and depths in metres."""

    colours: Array
    depths: Array


def draw_camera(capsules: list[Capsule], manner: Manner, size: int, rng: Generator) -> Camera:
    """Return a camera that looks down a little, is tilted, and has the figure fill some of the picture."""
    points = np.array(
        [
            above(end, side * max(capsule.radii))
            for capsule in capsules
            for end in (capsule.start, capsule.end)
            for side in (-1, 1)
        ]
    )
    target = (points.min(axis=0) + points.max(axis=0)) / 2
    axes = np.array([[1, 0, 0], [0, 1, 0], [0, 0, -1]]) @ turn(rng.uniform(*manner.pitch), 0)
    axes = turn(float(np.clip(rng.normal(0, manner.roll), -22, 22)), 2) @ axes
    camera = Camera(target, axes, rng.uniform(1.2, 1.9) * size, np.zeros(2), size)
    return framed(camera, points, manner, rng)


def framed(camera: Camera, points: Array, manner: Manner, rng: Generator) -> Camera:
    """Return the camera moved back until the points fill some of the picture, and shifted at random."""
    fill, target, distance = rng.uniform(*manner.fill), camera.position, 4.0
    for _ in range(4):
        camera = replace(camera, position=target - distance * camera.axes[2])
        places = np.array([camera.project(point)[0] for point in points])
        low, high = places.min(axis=0), places.max(axis=0)
        distance *= float((high - low).max()) / camera.size / fill
    slack = np.maximum(camera.size - (high - low), 0) / 2
    shift = rng.uniform(-manner.shift, manner.shift, 2) * slack
    return replace(camera, centre=camera.centre + camera.size / 2 - (low + high) / 2 + shift)


def draw_capsule(canvas: Canvas, capsule: Capsule, camera: Camera, light: Light) -> None:
    """Draw one capsule where it is nearer than what is there, lit by its surface's slope."""
    (start, near), (end, far) = camera.project(capsule.start), camera.project(capsule.end)
    if min(near, far) < 0.3:
        return
    radii = camera.focal * np.array(capsule.radii) / (near, far)
    low = np.maximum(np.minimum(start - radii[0], end - radii[1]).astype(int), 0)
    high = np.minimum(np.maximum(start + radii[0], end + radii[1]).astype(int) + 2, camera.size)
    if (high <= low).any():
        return
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
    axis = end - start
    along = np.clip(((x - start[0]) * axis[0] + (y - start[1]) * axis[1]) / max(axis @ axis, 1e-9), 0, 1)
    radius = radii[0] + along * (radii[1] - radii[0])
    slope_x, slope_y = (x - start[0] - along * axis[0]) / radius, (y - start[1] - along * axis[1]) / radius
    facing = np.sqrt(np.maximum(1 - slope_x**2 - slope_y**2, 0))
    depth = near + along * (far - near) - facing * radius * near / camera.focal
    seen = (slope_x**2 + slope_y**2 < 1) & (depth < canvas.depths[window])
    normals = np.stack([slope_x, -slope_y, -facing], axis=-1)[seen]
    around = (slope_x * -axis[1] + slope_y * axis[0])[seen] / max(float(np.hypot(*axis)), 1e-9)
    canvas.colours[window][seen] = lit(capsule.colours(along[seen], around), normals @ camera.axes, light)
    canvas.depths[window][seen] = depth[seen]


def lit(colours: Array, normals: Array, light: Light) -> Array:
    """Return the colours of surfaces with these outward `normals` (n, 3) under the light."""
    direct = np.maximum(normals @ light.direction, 0)
    sky = 0.5 + 0.5 * normals[:, 1]
    strength = light.ambient * (0.72 + 0.28 * sky) + (1 - light.ambient) * 1.25 * direct
    return np.clip(colours * strength[:, None], 0, 1)


def outlined(canvas: Canvas, amount: float) -> Array:
    """Return the colours, darkened where something stands clearly behind its neighbour: contact shade."""
    depths = np.minimum(canvas.depths, 50)
    step = np.zeros_like(depths)
    for axis in (0, 1):
        for way in (-2, 2):
            step = np.maximum(step, depths - np.roll(depths, way, axis))
    edge = (step > 0.05) & np.isfinite(canvas.depths)
    return canvas.colours * (1 - amount * edge)[..., None]


def draw_light(rng: Generator) -> Light:
    """Return a light from above, from any side but behind."""
    height, side = rng.uniform(35, 75), rng.uniform(-80, 80)
    direction = turn(side, 1) @ unit(Direction(90, 90 - height))
    return Light(direction, rng.uniform(0.45, 0.78), rng.uniform(0.25, 0.6), rng.uniform(0.02, 0.12))


# Backgrounds: the colours of floor and wall where the rays meet them.
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
    """Return the wall with a picture in a frame, or a mirror, or a poster."""
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


# Objects that stand about.
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
    """Return things behind and beside the figure and, in one picture of four, one in front of it."""
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


# From the scene to the file.
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
    """Return the finished picture: scaled down, blurred, with sensor noise."""
    image = Image.fromarray(np.rint(np.clip(expose(colours, tone, rng), 0, 1) * 255).astype(np.uint8))
    image = image.reduce(SUPERSAMPLING)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.choice([0.0, 0.4, 0.8, 1.4], p=[0.5, 0.3, 0.15, 0.05]))))
    shape = (image.height, image.width)
    grain = rng.normal(0, rng.uniform(0.5, 4), shape)[..., None] + rng.normal(0, rng.uniform(0, 2), (*shape, 3))
    return Image.fromarray(np.rint(np.clip(np.asarray(image) + grain, 0, 255)).astype(np.uint8))


def draw_picture(label: str, number: int, seed: int = SEED, size: int = SIZE) -> Image.Image:
    """Return picture `number` of a class, `size` pixels wide and high."""
    rng = default_rng(SeedSequence([seed, list(POSES).index(label), number]))
    manner = CARELESS if rng.random() < CARELESS_SHARE else CAREFUL
    colours = render(label, size * SUPERSAMPLING, manner, rng)
    if rng.random() < 0.5:
        colours = colours[:, ::-1]
    return develop(colours, manner.tone, rng)


def save(image: Image.Image, path: Path) -> None:
    """Write the picture as a JPEG without any metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=QUALITY, optimize=True)


def main() -> None:
    """Draw all pictures of all classes."""
    parser = argparse.ArgumentParser(description="Draw the built-in pictures: five yoga poses, from one seed.")
    parser.add_argument("--seed", type=int, default=SEED, help="of everything random (default %(default)s)")
    parser.add_argument("--count", type=int, default=COUNT, help="pictures of each class (default %(default)s)")
    parser.add_argument("--size", type=int, default=SIZE, help="side of a picture, pixels (default %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder (default: yoga_figures beside this file)")
    options = parser.parse_args()
    for label in POSES:
        for number in range(1, options.count + 1):
            picture = draw_picture(label, number, options.seed, options.size)
            save(picture, options.output / label / f"{number:03d}.jpg")


if __name__ == "__main__":
    main()
