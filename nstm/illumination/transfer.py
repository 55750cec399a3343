"""The transfer function that the data themselves show, beside the one that is assumed.

Where an order meets band 0 both see the same part of the sample, so their ratio is that of the transfer functions at
``f`` and ``f - o k`` whatever the sample is. With order 0 at ``f - o k`` as assumed, that at ``f`` follows. The blur
of the camera pixel is taken off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from nstm.illumination.bands import Detection, ring_index, separation_matrix
from nstm.illumination.fit import USUAL_MODULATION, Orientation
from nstm.optics.grids import frequencies
from nstm.optics.lens import Lens
from nstm.optics.otf import pixel_transfer

#: Rings over the passband, and the error of a ring's value above which it stands for nothing.
RINGS, LARGEST_ERROR = 40, 0.03
#: Transfer of order 0 at which it is not divided by.
LEAST_ASSUMED = 0.03


@dataclass(frozen=True)
class SeenTransfer:
    """Of one order, the mean over the orientations; of a stack in its plane ``kz = 0``."""

    order: int
    frequency: np.ndarray  # (ring,), cycles/um
    assumed: np.ndarray  # (ring,)
    seen: np.ndarray  # (ring,), NaN where the data do not tell


def seen_transfer(frames: np.ndarray, calibration: Mapping[str, Any], **optics: Any) -> list[SeenTransfer]:
    """Compare transfer functions with data.

    Args:
        frames: ``(angle, phase, y, x)`` or ``(angle, phase, z, y, x)``, camera offset removed.
        calibration: result of :func:`nstm.illumination.sim.estimate`.
        **optics: of :class:`nstm.optics.lens.Lens`.

    Returns:
        One entry per order of the pattern.
    """
    frames = np.asarray(frames, np.float32)
    frames = frames if frames.ndim == 5 else frames[:, :, None]
    lens, orders = Lens(**optics), len(calibration["modulation"][0])
    sums = np.zeros((orders, 3, RINGS))
    assumed = np.zeros((orders, RINGS))
    for angle, images in enumerate(frames):
        k = np.array(calibration["pattern_vectors"][angle])
        detection = Detection.of(images.shape[-3:], lens, orders, float(np.hypot(*k)))
        intensity = np.array(calibration["intensity"][angle])
        one = Orientation(images, detection, orders, intensity / intensity.mean())
        one.matrix = separation_matrix(np.array(calibration["phases"][angle]), one.intensity, orders)
        for order in range(1, orders + 1):
            sums[order - 1] += _sums(one, k, order, 0.5 * calibration["modulation"][angle][order - 1])
        radius = (np.arange(RINGS) + 0.5) * detection.cutoff / RINGS
        assumed += np.abs(detection.otf.tables_at(radius)[1:, 0]) / len(frames)
    seen, power, noise = sums.transpose(1, 0, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        told = np.sqrt(noise / len(frames) / power) < LARGEST_ERROR
        values = np.where(told, seen / power, np.nan)
    return [SeenTransfer(o + 1, radius, assumed[o], values[o]) for o in range(orders)]


def _sums(one: Orientation, k: np.ndarray, order: int, half: float) -> np.ndarray:
    """Per ring: the order times what it should be but for its transfer, power of that, noise of the order."""
    detection = one.detection
    shared = one.weights(k, order, USUAL_MODULATION)
    rows, columns = shared.at
    wy, wx = detection.wave(order * k)
    bands = one.bands()
    zero = np.tensordot(one.matrix[0].real.astype(np.float32), one.frames, 1)
    zero = scipy.fft.fft2(zero * (wy * wx), workers=1)[0, rows, columns]
    # a low transfer of order 0 makes its own noise large
    kept = np.abs(shared.there[0]) > LEAST_ASSUMED
    expected = half * zero[kept] / shared.there[0, kept]
    if detection.pixel_integration:
        fy, fx = frequencies(detection.shape, detection.pixel_um)
        expected = expected * pixel_transfer(fy, fx, detection.pixel_um)[shared.at][kept]
    band = bands[order][0, rows, columns][kept]
    own_noise = half**2 * one.band_noise(0) / np.abs(shared.there[0, kept]) ** 2
    ring = ring_index(detection.plain_radius[shared.at][kept], detection.cutoff / RINGS)
    parts = (band * expected.conj()).real, np.abs(expected) ** 2 - own_noise
    found = [np.bincount(ring, part, RINGS)[:RINGS] for part in parts]
    return np.stack([*found, np.full(RINGS, one.band_noise(order))])
