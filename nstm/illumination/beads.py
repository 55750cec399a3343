"""Transfer functions of the orders of a pattern from the stack of one bead.

The steps are those of makeotf (M. Gustafsson, L. Shao): bands by their phases, the bead moved to the origin and divided
out, the mean over the azimuth.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy.ndimage import center_of_mass, label

from nstm.acquisition import DataError
from nstm.illumination.bands import nominal_phases, separation_matrix, soft_edges
from nstm.optics.measured import MeasuredOtf

#: Share of the side at the border that is background.
BORDER = 8
#: Samples of ``kr`` whose straight line gives the origin of order 0, which background spoils.
ORIGIN_FROM = slice(2, 8)


def otf_from_bead(
    frames: np.ndarray, *, pixel_um: float, z_step_um: float, beams: int, diameter_um: float = 0.1
) -> MeasuredOtf:
    """Measure the transfer functions, camera pixel included.

    Args:
        frames: ``(phase, z, y, x)`` of one bead near the middle, one orientation, phases in equal steps; camera offset
            removed or not, as the border is taken for background.
        pixel_um: camera pixel, um.
        z_step_um: distance of the planes, um.
        beams: 2 or 3.
        diameter_um: of the bead; its own spectrum is divided out.

    Raises:
        DataError: too few phases, no bead, or a saturated one.
    """
    frames = np.asarray(frames, np.float32)
    if frames.ndim != 4 or len(frames) < 2 * beams - 1:
        raise DataError(
            f"frames of a bead have shape {frames.shape}, expected (phase, z, y, x) with {2 * beams - 1} phases or more"
        )
    full = np.count_nonzero(frames == frames.max())
    if full > 2:
        raise DataError(f"the bead is saturated: {full} voxels hold the same highest count")
    frames = _without_background(frames)
    mean = frames.mean(axis=0)
    centre = _centre(mean)
    matrix = separation_matrix(nominal_phases(len(frames)), np.ones(len(frames)), beams - 1)
    bands = np.tensordot(matrix, frames * soft_edges(mean.shape[1:]), 1)
    frequencies = [np.fft.fftfreq(n) for n in mean.shape]
    ramp = np.exp(2j * np.pi * sum(c * f for c, f in zip(centre, np.ix_(*frequencies), strict=True)))
    fz, fy, fx = np.ix_(*(f / p for f, p in zip(frequencies, (z_step_um, pixel_um, pixel_um), strict=True)))
    sphere = _sphere(np.sqrt(fz**2 + fy**2 + fx**2), 0.5 * diameter_um)
    pitch = 1 / (min(mean.shape[1:]) * pixel_um)
    ring = np.rint(np.hypot(fy, fx)[0] / pitch).astype(int)
    size = min(mean.shape[1:]) // 2 + 1
    tables = np.stack([_radial(scipy.fft.fftn(band) * ramp / sphere, ring, size) for band in bands])
    tables = 0.5 * (tables + np.roll(tables[:, ::-1], 1, axis=1).conj() * _phase(tables)[:, None, None] ** 2)
    tables *= _phase(tables)[:, None, None].conj()
    tables[1:] *= 2  # the bands carry half of the modulation
    tables[0, 0, 0] = _origin(tables[0])
    return MeasuredOtf((tables / tables[0, 0, 0].real).astype(np.complex64), pitch, 1 / (mean.shape[0] * z_step_um))


def _without_background(frames: np.ndarray) -> np.ndarray:
    width = max(2, min(frames.shape[-2:]) // BORDER)
    border = np.ones(frames.shape[-2:], bool)
    border[width:-width, width:-width] = False
    return frames - np.median(frames[..., border], axis=-1)[..., None, None]


def _centre(mean: np.ndarray) -> np.ndarray:
    """Centre of the bead (z, y, x), samples: that of gravity of what is brighter than half of its top."""
    top = np.array(np.unravel_index(int(np.argmax(mean)), mean.shape))
    if np.any(top == 0) or np.any(top == np.array(mean.shape) - 1) or mean.max() < 5 * mean.std():
        raise DataError("no bead stands out in the middle of the stack: crop it around one bead")
    parts, _ = label(mean > 0.5 * mean.max())
    return np.array(center_of_mass(np.where(parts == parts[tuple(top)], mean, 0)))


def _sphere(f: np.ndarray, radius_um: float) -> np.ndarray:
    """Spectrum of a solid sphere, 1 at the origin, kept away from its zeros."""
    q = np.maximum(2 * np.pi * f * radius_um, 1e-3)
    return np.maximum(3 * (np.sin(q) - q * np.cos(q)) / q**3, 0.1)


def _radial(spectrum: np.ndarray, ring: np.ndarray, size: int) -> np.ndarray:
    """Mean of ``(kz, y, x)`` over rings: ``(kz, kr)``."""
    index, count = ring.ravel(), np.maximum(np.bincount(ring.ravel()), 1)
    means = [(np.bincount(index, p.real.ravel()) + 1j * np.bincount(index, p.imag.ravel())) / count for p in spectrum]
    return np.stack(means)[:, :size]


def _phase(tables: np.ndarray) -> np.ndarray:
    """Factor of modulus 1 common to each order: where the pattern stood at the bead."""
    squares = np.sum(tables**2, axis=(1, 2))
    phase = np.exp(0.5j * np.angle(squares))
    sums = np.sum(tables * phase[:, None, None].conj(), axis=(1, 2)).real
    return phase * np.where(sums < 0, -1, 1)


def _origin(zero: np.ndarray) -> complex:
    """The origin of order 0 from the straight line through its sum over ``kz`` at small radius."""
    projected = zero.sum(axis=0).real
    radius = np.arange(projected.size)[ORIGIN_FROM]
    value = np.polyfit(radius, projected[ORIGIN_FROM], 1)[1]
    return complex(value - zero[1:, 0].sum().real)
