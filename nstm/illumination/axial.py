"""Phase of a three-beam pattern along the optical axis, in the focal plane.

Order 1 is ``cos(2 pi kappa z + axial phase)`` along z (Gustafsson et al., Biophys. J. 94, 4957, 2008), so its transfer
function is ``cos(phase) T_c + sin(phase) T_s``. Band 1 is compared with what band 0 lets expect through either. A stack
is a window, whose spectrum mixes axial frequencies: expected is ``<C_1 C_0*> / <|C_0|^2>`` of such a window.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import scipy.fft

from nstm.illumination.fit import USUAL_MODULATION, Orientation
from nstm.optics.lens import Lens

#: Phases that are tried, over half a turn: the other half is the same with the pattern moved by half a period.
TRIALS = 360


def axial_phase(one: Orientation, planes: int, lens: Lens, k: np.ndarray) -> float:
    """Axial phase of best match, rad, -pi/2 to pi/2.

    Args:
        one: an orientation of a stack that was fitted with axial phase 0, bands separated.
        planes: planes of the stack.
        lens: optics with axial phase 0.
        k: pattern vector (y, x) of order 1, cycles/um.
    """
    shared = one.weights(k, 1, USUAL_MODULATION)
    rows, columns = shared.at
    wy, wx = one.detection.wave(k)
    zero = np.tensordot(one.matrix[0].real.astype(np.float32), one.frames, 1)
    zero = scipy.fft.fft2(zero * (wy * wx), workers=1)[:, rows, columns]
    order = one.bands()[1][:, rows, columns]
    weight = shared.weight * np.abs(shared.there) ** 2
    cosine, sine = (zero * expected for expected in _expected(one, planes, lens, k, shared.at))
    cross = [np.sum(v.conj() * order * weight) for v in (cosine, sine)]
    power = [np.sum((v.conj() * w).real * weight) for v, w in ((cosine, cosine), (cosine, sine), (sine, sine))]
    trial = np.pi * (np.arange(TRIALS) / TRIALS - 0.5)
    c, s = np.cos(trial), np.sin(trial)
    match = np.abs(c * cross[0] + s * cross[1]) ** 2
    match /= np.maximum(c * c * power[0] + 2 * c * s * power[1] + s * s * power[2], 1e-30)
    return float(trial[np.argmax(match)])


def _expected(
    one: Orientation, planes: int, lens: Lens, k: np.ndarray, at: tuple[np.ndarray, np.ndarray]
) -> list[np.ndarray]:
    """Band 1 over band 0 at ``f - k``, ``(kz, n)``, for a cosine and for a sine along z."""
    detection, depth = one.detection, one.detection.depth
    between = detection.axial[:, None] / depth - np.arange(2 * depth) / (2 * depth)
    window = np.abs(np.exp(2j * np.pi * between[..., None] * np.arange(planes)).sum(axis=-1)) ** 2
    here, there = detection.plain_radius[at], detection.radius(k)[at]
    length = float(np.hypot(*k))
    tables = [replace(lens, axial_phase_rad=phase).otf(2 * depth, one.orders, length) for phase in (0.0, math.pi / 2)]
    zero = tables[0](0, there)
    power = window @ np.abs(zero) ** 2
    return [(window @ (table(1, here) * zero.conj())) / np.maximum(power, 1e-12) for table in tables]
