"""From a phantom in millimeters to CT slices in Hounsfield units.

A slice is a cut at one height, not an average over its thickness: averaging would smear tubes,
which move within a slice, more than lesions, and the key slice alone would give them away.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from deeplesion.datasets.synthetic.scene import Anatomy, Ellipse, Lesion, Scene, Section, Tube

AIR_HU = -1000.0
MARROW_HU = 180.0
CORTEX_HU = 450.0
SPINE_PERIOD_MM = 28.0
"""Distance of vertebrae: the marrow's density follows it."""

Array = NDArray[np.float64]


def pixel_grid(size: int, spacing: float) -> tuple[Array, Array]:
    """Coordinates of pixel centers in mm: ``x`` is ``(1, size)``, ``y`` is ``(size, 1)``."""
    axis = (np.arange(size, dtype=np.float64) - (size - 1) / 2) * spacing
    return axis[None, :], axis[:, None]


def paint(image: Array, grid: tuple[Array, Array], section: Section) -> None:
    """Blend a section into ``image`` in place, linearly over its edge."""
    outline = section.outline
    depth = (1.0 - outline.radius(*grid)) * math.sqrt(outline.a * outline.b)
    alpha = np.clip(0.5 + depth / (2 * section.edge_mm), 0.0, 1.0)
    image += alpha * (section.hu - image)


def texture(waves: Array, grid: tuple[Array, Array], z: float) -> Array:
    """Sum of plane waves at height ``z``, separated into its x and y factors."""
    kx, ky, kz, phase, amplitude = waves.T
    along_x = kx * grid[0][0][:, None]
    along_y = ky * grid[1][:, 0][:, None] + kz * z + phase
    even = np.einsum("yk,xk->yx", amplitude * np.cos(along_y), np.cos(along_x))
    odd = np.einsum("yk,xk->yx", amplitude * np.sin(along_y), np.sin(along_x))
    return even - odd


def noise(rng: np.random.Generator, size: int, std: float) -> Array:
    """Gaussian noise of ``std`` HU, its grain a little wider than a pixel, as a CT's is."""
    white = rng.normal(size=(size + 2, size + 2))
    rows = 0.25 * white[:-2] + 0.5 * white[1:-1] + 0.25 * white[2:]
    grain = 0.25 * rows[:, :-2] + 0.5 * rows[:, 1:-1] + 0.25 * rows[:, 2:]
    return std * grain / 0.375


def _lung(lung: Ellipse, z: float) -> Ellipse:
    return lung.scaled(0.9 + 0.1 * math.cos(z / 60.0))


def render_anatomy(anatomy: Anatomy, grid: tuple[Array, Array], z: float) -> Array:
    """The torso at height ``z`` without lesions and tubes, in HU."""
    image = np.full((grid[1].size, grid[0].size), AIR_HU)
    hu = anatomy.hu
    layers = [
        Section(anatomy.body, hu["fat"], 1.5),
        Section(anatomy.muscle, hu["muscle"], 1.5),
        Section(anatomy.interior, hu["interior"], 2.0),
    ]
    for name, outline, density in anatomy.organs:
        wobble = 1.0 + 0.06 * math.sin(z / 25.0 + len(name))
        layers.append(Section(outline.scaled(wobble), density, 2.0))
    layers += [Section(_lung(lung, z), hu["lung"], 2.0) for lung in anatomy.lungs]
    marrow = MARROW_HU + 40.0 * math.cos(2 * math.pi * z / SPINE_PERIOD_MM)
    layers += [
        Section(anatomy.spine, CORTEX_HU, 1.5),
        Section(anatomy.spine.scaled(0.8), marrow, 1.5),
    ]
    for layer in layers:
        paint(image, grid, layer)
    inside = anatomy.body.radius(*grid) < 1.0
    image += inside * texture(anatomy.waves, grid, z)
    return image


def render_slice(
    rng: np.random.Generator, anatomy: Anatomy, scene: Scene, grid: tuple[Array, Array], z: float
) -> Array:
    """One CT slice of ``scene`` at height ``z`` in HU, with noise drawn from ``rng``."""
    image = render_anatomy(anatomy, grid, z)
    things: tuple[Tube | Lesion, ...] = (*scene.tubes, *scene.lesions)
    for thing in things:
        section = thing.section(z)
        if section is not None:
            paint(image, grid, section)
    return image + noise(rng, len(image), anatomy.noise_hu)
