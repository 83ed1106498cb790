"""The figure, first half: from a pose to joints in space."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from drawing.palette import Array
from drawing.poses import ARM_JITTER, LEG_JITTER, TRUNK_JITTER, Direction, Limb, Limbs, Pose, Trunk


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
    """Return the skeleton turned in the plane of the image until its supports are equally high."""
    if not supports:
        return skeleton
    left, right = (np.mean([skeleton.joints[name] for name in names], axis=0) for names in supports)
    slope = np.degrees(np.arctan2(right[1] - left[1], right[0] - left[0]))
    return skeleton.transformed(turn(-slope, 2), np.zeros(3))
