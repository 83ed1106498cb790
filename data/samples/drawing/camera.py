"""Camera, light and the drawing of capsules."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from drawing.dress import Capsule
from drawing.palette import Array
from drawing.poses import Direction
from drawing.skeleton import above, turn, unit


@dataclass(frozen=True)
class Manner:
    """How an image is taken.

    `yaw`, `roll`: standard deviations of how far the figure is turned and the camera tilted, degrees;
    `pitch`: how far the camera looks down, degrees; `fill`: share of the image that the figure spans;
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
        """Return the place in the image (x, y from the upper left, pixels) and the depth in metres."""
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
    """The image while it is drawn: colours (height, width, 3), 0 to 1, and depths in metres."""

    colours: Array
    depths: Array


def draw_camera(capsules: list[Capsule], manner: Manner, size: int, rng: Generator) -> Camera:
    """Return a camera that looks down a little, is tilted, and has the figure fill some of the image."""
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
    """Return the camera moved back until the points fill some of the image, and shifted at random."""
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
