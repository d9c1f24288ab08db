"""What a phantom patient consists of: the anatomy, the lesions and the tubes, all in millimeters.

``x`` grows to the image's right, ``y`` downwards (posterior), ``z`` with the slice index;
``x = y = 0`` is the image center. Nothing here knows pixels or slice intervals, so the same patient
could be scanned with thin or with thick slices.

In its key slice a lesion and a tube are draws of one distribution (:func:`draw_cross_section`,
:func:`draw_positions`). They differ in depth alone: a lesion's section shrinks to nothing within
its own extent and stays where it is, a tube's section keeps its size and moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIELD_OF_VIEW_MM = 240.0
"""Width of the image. A small torso, so that lesions span several pixels at 128 px too."""

LONG_SEMI_AXIS_MM = (4.5, 13.0)
ASPECT = (0.7, 1.0)
OBJECT_HU = (140.0, 250.0)
EDGE_MM = (1.0, 2.0)
TILT_MM_PER_MM = (1.0, 2.6)
LESIONS_PER_KEY_SLICE = (2, 3)
TUBES_PER_KEY_SLICE = (3, 5)
GAP_MM = 5.0

_PLACEMENT_TRIES = 400
_SCENE_TRIES = 200
_DIRECTIONS = 32
_STAYS_INSIDE = 0.9


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in a slice, in mm: center, semi-axes ``a`` and ``b``, ``angle`` of ``a``."""

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0

    def radius(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Normalized radius of points (1 on the outline); ``x`` and ``y`` broadcast."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        u = (x - self.x) * cos + (y - self.y) * sin
        v = (y - self.y) * cos - (x - self.x) * sin
        return np.sqrt((u / self.a) ** 2 + (v / self.b) ** 2)

    def scaled(self, factor: float) -> Ellipse:
        """The same center and direction with both semi-axes times ``factor``."""
        return Ellipse(self.x, self.y, self.a * factor, self.b * factor, self.angle)

    def moved(self, dx: float, dy: float) -> Ellipse:
        """The same shape elsewhere."""
        return Ellipse(self.x + dx, self.y + dy, self.a, self.b, self.angle)

    def clearance(self, x: float, y: float) -> float:
        """About the distance in mm to the outline, never more than that; negative inside."""
        rho = float(self.radius(np.array(x), np.array(y)))
        return (rho - 1.0) * min(self.a, self.b)


@dataclass(frozen=True)
class Section:
    """What one slice shows of an object: an outline, a density and how soft its edge is."""

    outline: Ellipse
    hu: float
    edge_mm: float


@dataclass(frozen=True)
class Lesion:
    """An ellipsoid. ``key`` is its section in the key slice, at height ``z``.

    Attributes:
        key: section at ``z``.
        z: height of the key slice in mm.
        center_z: height of the ellipsoid's center in mm.
        radius_z: semi-axis along z in mm.
    """

    key: Section
    z: float
    center_z: float
    radius_z: float

    def section(self, z: float) -> Section | None:
        """The section at height ``z``, None beyond the poles."""
        here = 1.0 - ((z - self.center_z) / self.radius_z) ** 2
        if here <= 0.0:
            return None
        key = 1.0 - ((self.z - self.center_z) / self.radius_z) ** 2
        return Section(
            self.key.outline.scaled(math.sqrt(here / key)), self.key.hu, self.key.edge_mm
        )


@dataclass(frozen=True)
class Tube:
    """A vessel or a bowel loop that runs through the slices.

    Attributes:
        key: section at ``z``.
        z: height of the key slice in mm.
        direction: unit vector ``(x, y)`` in which the section moves with growing z.
        tilt: movement at the key slice, mm in-plane per mm of z.
        bend: height in mm over which the tube turns back; the excursion ends at ``tilt * bend``.
        pulsation: relative amplitude, wavelength in mm and phase of the changing caliber.
    """

    key: Section
    z: float
    direction: tuple[float, float]
    tilt: float
    bend: float
    pulsation: tuple[float, float, float]

    def section(self, z: float) -> Section:
        """The section at height ``z``."""
        dz = z - self.z
        way = self.tilt * self.bend * math.sin(dz / self.bend)
        amplitude, wavelength, phase = self.pulsation
        wave = math.sin(2 * math.pi * dz / wavelength + phase) - math.sin(phase)
        outline = self.key.outline.scaled(1.0 + amplitude * wave)
        outline = outline.moved(way * self.direction[0], way * self.direction[1])
        return Section(outline, self.key.hu, self.key.edge_mm)


@dataclass(frozen=True)
class Anatomy:
    """A patient's torso: nested outlines at ``z = 0`` and densities in HU.

    Attributes:
        body, muscle, interior: skin, inner border of the fat rim, inner border of the muscle wall.
        spine: outline of the vertebrae.
        lungs: left and right.
        organs: name, outline and HU, painted in this order.
        hu: density of fat, muscle, interior and lung.
        waves: smooth texture, ``(n, 5)``: wave numbers kx, ky, kz in 1/mm, phase, amplitude in HU.
        noise_hu: standard deviation of the noise.
    """

    body: Ellipse
    muscle: Ellipse
    interior: Ellipse
    spine: Ellipse
    lungs: tuple[Ellipse, Ellipse]
    organs: tuple[tuple[str, Ellipse, float], ...]
    hu: dict[str, float]
    waves: NDArray[np.float64]
    noise_hu: float

    def may_hold(self, x: float, y: float, radius: float) -> bool:
        """Whether a disk at ``(x, y)`` lies in soft tissue, clear of wall, lungs and spine."""
        inside = self.interior.clearance(x, y) < -(radius + 2.0)
        return inside and all(e.clearance(x, y) > radius + 2.0 for e in (self.spine, *self.lungs))


@dataclass(frozen=True)
class Scene:
    """The surroundings of one key slice at height ``z`` (mm)."""

    z: float
    lesions: tuple[Lesion, ...]
    tubes: tuple[Tube, ...]


def _uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(rng.uniform(*bounds))


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a patient's torso."""
    w, h = _uniform(rng, (102, 111)), _uniform(rng, (82, 92))
    fat, wall = _uniform(rng, (6, 12)), _uniform(rng, (5, 8))
    body = Ellipse(0.0, 0.0, w, h)
    muscle = Ellipse(0.0, 0.0, w - fat, h - fat)
    interior = Ellipse(0.0, 0.0, muscle.a - wall, muscle.b - wall)

    def at(x: float, y: float, a: float, b: float, angle: float = 0.0) -> Ellipse:
        x, y, a, b = (v * float(rng.uniform(0.92, 1.08)) for v in (x, y, a, b))
        return Ellipse(x * w, y * h, a * w, b * h, angle + float(rng.normal(0, 0.06)))

    organs = (
        ("liver", at(-0.32, -0.36, 0.40, 0.32, -0.35), _uniform(rng, (85, 110))),
        ("spleen", at(0.46, -0.32, 0.20, 0.26, 0.4), _uniform(rng, (80, 110))),
        ("kidney", at(-0.25, 0.36, 0.12, 0.17, 0.2), _uniform(rng, (90, 120))),
        ("kidney", at(0.25, 0.36, 0.12, 0.17, -0.2), _uniform(rng, (90, 120))),
    )
    return Anatomy(
        body=body,
        muscle=muscle,
        interior=interior,
        spine=at(0.0, 0.62, 0.14, 0.17),
        lungs=(at(-0.58, 0.20, 0.17, 0.32, 0.2), at(0.58, 0.20, 0.17, 0.32, -0.2)),
        organs=organs,
        hu={
            "fat": _uniform(rng, (-115, -90)),
            "muscle": _uniform(rng, (45, 65)),
            "interior": _uniform(rng, (35, 60)),
            "lung": _uniform(rng, (-880, -800)),
        },
        waves=_draw_waves(rng),
        noise_hu=_uniform(rng, (10, 18)),
    )


def _draw_waves(rng: np.random.Generator, count: int = 32) -> NDArray[np.float64]:
    """Plane waves of 12 to 60 mm that add up to a smooth texture of about 10 HU."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    number = 2 * np.pi / rng.uniform(12, 60, size=(count, 1))
    phase = rng.uniform(0, 2 * np.pi, size=(count, 1))
    amplitude = rng.uniform(0.5, 1.5, size=(count, 1)) * 10.0 / math.sqrt(count / 2)
    return np.hstack([direction * number, phase, amplitude])


def draw_cross_section(rng: np.random.Generator) -> Section:
    """Draw what a key slice shows of an object, lesion or tube alike, centered at ``(0, 0)``."""
    a = _uniform(rng, LONG_SEMI_AXIS_MM)
    outline = Ellipse(0.0, 0.0, a, a * _uniform(rng, ASPECT), _uniform(rng, (0, math.pi)))
    return Section(outline, _uniform(rng, OBJECT_HU), _uniform(rng, EDGE_MM))


def draw_positions(
    rng: np.random.Generator, anatomy: Anatomy, sections: list[Section]
) -> list[Section] | None:
    """Place sections in soft tissue without contact, lesion or tube; None where they do not fit."""
    placed: list[Section] = []
    for section in sections:
        outline = section.outline
        for _ in range(_PLACEMENT_TRIES):
            x = _uniform(rng, (-1, 1)) * anatomy.interior.a
            y = _uniform(rng, (-1, 1)) * anatomy.interior.b
            clear = all(
                math.hypot(x - o.outline.x, y - o.outline.y) > outline.a + o.outline.a + GAP_MM
                for o in placed
            )
            if clear and anatomy.may_hold(x, y, outline.a):
                placed.append(Section(outline.moved(x, y), section.hu, section.edge_mm))
                break
        else:
            return None
    return placed


def _draw_lesion(rng: np.random.Generator, key: Section, z: float) -> Lesion:
    """Give a section its depth: about as deep as it is wide, centered near the key slice."""
    mean_radius = math.sqrt(key.outline.a * key.outline.b)
    radius_z = max(3.5, mean_radius * _uniform(rng, (0.65, 0.95)))
    return Lesion(key, z, z + radius_z * _uniform(rng, (-0.3, 0.3)), radius_z)


def _draw_tube(rng: np.random.Generator, key: Section, z: float, anatomy: Anatomy) -> Tube:
    """Give a section its course: of some random directions the first that stays in the body."""
    tilt, bend = _uniform(rng, TILT_MM_PER_MM), _uniform(rng, (8, 14))
    pulsation = (_uniform(rng, (0, 0.1)), _uniform(rng, (20, 40)), _uniform(rng, (0, 2 * math.pi)))
    best, best_radius = (1.0, 0.0), math.inf
    for angle in rng.uniform(0, 2 * math.pi, size=_DIRECTIONS):
        dx, dy = math.cos(angle), math.sin(angle)
        ends = np.array([-1.0, 1.0]) * tilt * bend
        radius = anatomy.interior.radius(key.outline.x + ends * dx, key.outline.y + ends * dy).max()
        radius = max(float(radius), _STAYS_INSIDE)
        if radius < best_radius:
            best, best_radius = (dx, dy), radius
    return Tube(key, z, best, tilt, bend, pulsation)


def draw_scene(rng: np.random.Generator, anatomy: Anatomy, z: float) -> Scene:
    """Draw the lesions and tubes that cross the key slice at height ``z``.

    Raises:
        RuntimeError: if they find no room, which the anatomy's bounds rule out in practice.
    """
    n_lesions = int(rng.integers(LESIONS_PER_KEY_SLICE[0], LESIONS_PER_KEY_SLICE[1] + 1))
    n_tubes = int(rng.integers(TUBES_PER_KEY_SLICE[0], TUBES_PER_KEY_SLICE[1] + 1))
    for _ in range(_SCENE_TRIES):
        sections = [draw_cross_section(rng) for _ in range(n_lesions + n_tubes)]
        placed = draw_positions(rng, anatomy, sections)
        if placed is not None:
            break
    else:
        raise RuntimeError(f"no room for {n_lesions} lesions and {n_tubes} tubes at z = {z} mm")
    # Early sections find room more easily: which ones become lesions must not depend on the order.
    placed = [placed[i] for i in rng.permutation(len(placed))]
    lesions = tuple(_draw_lesion(rng, s, z) for s in placed[:n_lesions])
    tubes = tuple(_draw_tube(rng, s, z, anatomy) for s in placed[n_lesions:])
    return Scene(z, lesions, tubes)
