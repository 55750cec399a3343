"""Conventional differential phase contrast: the weak-object model inverted frequency by frequency (Tikhonov).

Tian and Waller, Opt. Express 23, 11394 (2015), eq. 9, for absorption and phase together or for the phase alone.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from nstm.optics.dpc import Transfer


def tikhonov(
    images: np.ndarray, transfer: Transfer, *, absorption_weight: float | None, phase_weight: float
) -> np.ndarray:
    """The weak sample that explains the images best in the sense of least squares, with a penalty on its power.

    Args:
        images: ``(source, y, x)``, intensity over background minus 1; taken as periodic.
        transfer: of the same sources on the half spectrum of the images.
        absorption_weight: penalty on the absorption in units of the squared transfer; ``None``: it does not absorb.
        phase_weight: penalty on the phase (rad).

    Returns:
        float32 ``(2, y, x)``, absorption and phase in rad, or ``(1, y, x)``, the phase.
    """
    absorbing, delaying = transfer
    shape = images.shape[-2:]
    spectra = scipy.fft.rfft2(np.asarray(images, np.float64), workers=1)
    delayed = np.sum(delaying * spectra, axis=0) * -1j
    delaying_power = np.sum(delaying**2, axis=0) + phase_weight
    if absorption_weight is None:
        found = (delayed / delaying_power)[None]
    else:
        absorbed = np.sum(absorbing * spectra, axis=0)
        absorbing_power = np.sum(absorbing**2, axis=0) + absorption_weight
        shared = 1j * np.sum(absorbing * delaying, axis=0)
        determinant = absorbing_power * delaying_power - np.abs(shared) ** 2
        found = np.stack(
            [
                (delaying_power * absorbed - shared * delayed) / determinant,
                (absorbing_power * delayed + shared * absorbed) / determinant,
            ]
        )
    return scipy.fft.irfft2(found, s=shape, workers=1).astype(np.float32)


def brightfield(images: np.ndarray) -> np.ndarray:
    """Image under all sources together, background 1, from images ``(source, y, x)`` of background 0; ``(y, x)``."""
    return 1 + np.asarray(images, np.float32).mean(axis=0)
