"""Theoretical three-dimensional transfer functions of a microscope, without and with an axial pattern."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.fft import fft, fft2, fftshift, ifftshift

from nstm.optics.otf import RadialOtf, cutoff

#: Samples of the pupil's grid along a side; twice as many as the pupil has, so that its square is not wrapped.
_SIDE = 256


def axial_frequency(pattern_frequency: float, index: float, wavelength_um: float) -> float:
    """Axial frequency of a three-beam pattern of lateral frequency ``p`` (order 1), cycles/um.

    ``kappa = n/lambda (1 - cos b)``, ``sin b = p lambda / n`` (Gustafsson et al., Biophys. J. 94, 4957, 2008).

    Raises:
        ValueError: no wave of that frequency exists in the medium.
    """
    sine = pattern_frequency * wavelength_um / index
    if sine >= 1:
        raise ValueError(
            f"a pattern of {pattern_frequency:.3g} cycles/um cannot be projected at {wavelength_um:g} um in a medium "
            f"of index {index:g}"
        )
    return index / wavelength_um * (1 - math.sqrt(1 - sine**2))


def volume_otf(
    orders: int,
    planes: int,
    z_step_um: float,
    *,
    na: float,
    index: float,
    wavelength_um: float,
    axial: float = 0.0,
    axial_phase_rad: float = 0.0,
) -> RadialOtf:
    """Tables of an aberration-free objective for order 0 to ``orders``; of three beams order 1 has the axial pattern.

    Scalar high-NA pupil with the sine condition: ``h(z) = |F^-1 P a exp(2 pi i z kz)|^2``,
    ``kz = sqrt((n/lambda)^2 - f^2)``, ``a = cos(theta)^(-1/2)``; an axial pattern that rests in
    the focal plane makes it ``FFT_z(h cos(2 pi axial z - phase))`` (Gustafsson 2008): light from ``z`` above the focus
    is seen ``z`` below it.

    Args:
        orders: 1 (two beams) or 2 (three beams).
        planes: planes of the volume, padding included.
        z_step_um: their distance, um.
        na: detection numerical aperture.
        index: refractive index of the immersion.
        wavelength_um: emission wavelength (vacuum), um.
        axial: axial frequency of the pattern, cycles/um, used where ``orders`` is 2.
        axial_phase_rad: its phase in the focal plane.

    Returns:
        Tables, real without an axial phase: the point spread function is symmetric in z.
    """
    lens = (planes, z_step_um, na, index, wavelength_um)
    plain, pitch = _axial_table(*lens, 0.0)
    tables = [plain] * (orders + 1)
    if orders == 2:
        tables[1], _ = _axial_table(*lens, axial)
    if orders == 2 and axial_phase_rad:
        sine, _ = _axial_table(*lens, axial, quarter=True)
        tables[1] = math.cos(axial_phase_rad) * tables[1] + math.sin(axial_phase_rad) * sine
    stacked = np.stack(tables)
    kind = np.complex64 if np.iscomplexobj(stacked) else np.float32
    return RadialOtf(stacked.astype(kind), pitch, cutoff(na, wavelength_um))


def _axial_table(
    planes: int, z_step_um: float, na: float, index: float, wavelength_um: float, axial: float, quarter: bool = False
) -> tuple[np.ndarray, float]:
    """Transfer ``(kz, kr)`` and its pitch along ``kr``, cycles/um; ``quarter``: of a sine along z, not of a cosine."""
    spread, pitch = _spread(planes, z_step_um, na, index, wavelength_um)
    turn = 2 * np.pi * axial * np.fft.fftfreq(planes, 1 / planes) * z_step_um
    table = fft(spread * (np.sin(turn) if quarter else np.cos(turn))[:, None], axis=0) / spread[:, 0].sum()
    return (table if quarter else table.real), pitch


@lru_cache(maxsize=8)
def _spread(planes: int, z_step_um: float, na: float, index: float, wavelength_um: float) -> tuple[np.ndarray, float]:
    """Lateral transfer of each plane out of focus ``(z, kr)``, FFT order, and the pitch of ``kr``, cycles/um."""
    # the pupil fills half of the grid, so the transfer function just fits
    pitch = 4 * na / wavelength_um / _SIDE
    f = (np.arange(_SIDE) - _SIDE // 2) * pitch
    f2 = f[:, None] ** 2 + f[None, :] ** 2
    soft = np.clip((na / wavelength_um - np.sqrt(f2)) / pitch + 0.5, 0, 1)  # the edge of the pupil, a sample wide
    cosine = np.sqrt(np.maximum(1 - f2 * (wavelength_um / index) ** 2, 1e-6))
    spread = np.empty((planes, _SIDE // 2))
    for plane in range(planes // 2 + 1):  # the same on both sides of the focus
        depth = plane * z_step_um
        phase = np.exp(2j * np.pi * depth * index / wavelength_um * cosine)
        intensity = np.abs(fft2(ifftshift(soft / np.sqrt(cosine) * phase))) ** 2
        spread[plane] = spread[-plane] = fftshift(fft2(intensity))[_SIDE // 2, _SIDE // 2 :].real
    return spread, pitch
