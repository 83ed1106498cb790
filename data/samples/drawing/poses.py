"""The five poses as data: directions of bones, (angle, towards) in degrees, and how far they vary."""

from dataclasses import dataclass
from typing import NamedTuple


class Direction(NamedTuple):
    """Where a bone points: `angle` in the image plane from right to up, `towards` the viewer; degrees."""

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
