"""The figure, second half: from joints to dressed capsules."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from drawing.palette import FABRICS, HAIRS, SKINS, Array, choose, rgb
from drawing.skeleton import Build, Skeleton


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
