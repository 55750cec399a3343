"""Incoherent transfer functions of objective and camera, in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np


def cutoff(na: float, wavelength_um: float) -> float:
    """Highest frequency that an objective transfers incoherently, ``2 NA / lambda``, cycles/um."""
    return 2.0 * na / wavelength_um


def incoherent_otf(f_radius: Any, na: float, wavelength_um: float) -> Any:
    """Transfer function of an aberration-free circular pupil (Goodman, Fourier Optics, 6-32).

    Args:
        f_radius: distance from the origin of frequency space, cycles/um, any shape (numpy or JAX).
        na: detection numerical aperture.
        wavelength_um: emission wavelength (vacuum), um.

    Returns:
        Array like ``f_radius``: ``2/pi (arccos q - q sqrt(1 - q^2))``, 1 at the origin, 0 from the cut-off on.
    """
    xp = f_radius.__array_namespace__() if hasattr(f_radius, "__array_namespace__") else np
    q = xp.minimum(f_radius * (1.0 / cutoff(na, wavelength_um)), 1.0)
    return (2.0 / np.pi) * (xp.arccos(q) - q * xp.sqrt(1.0 - q * q))


def pixel_transfer(fy: Any, fx: Any, pixel_um: float) -> Any:
    """Transfer function of the integration over a square camera pixel, ``sinc(fy p) sinc(fx p)``.

    Args:
        fy: frequencies along y, cycles/um, broadcastable with ``fx`` (numpy or JAX).
        fx: frequencies along x, cycles/um.
        pixel_um: side of the pixel in the sample, um.
    """
    xp = fy.__array_namespace__() if hasattr(fy, "__array_namespace__") else np
    return xp.sinc(fy * pixel_um) * xp.sinc(fx * pixel_um)


def detection_otf(
    fy: Any, fx: Any, na: float, wavelength_um: float, pixel_um: float, pixel_integration: bool = True
) -> Any:
    """Objective and camera pixel together at frequencies ``fy``, ``fx`` (cycles/um, broadcastable)."""
    xp = fy.__array_namespace__() if hasattr(fy, "__array_namespace__") else np
    otf = incoherent_otf(xp.sqrt(fy * fy + fx * fx), na, wavelength_um)
    return otf * pixel_transfer(fy, fx, pixel_um) if pixel_integration else otf
