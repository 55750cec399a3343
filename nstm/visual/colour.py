"""Perceptually uniform colours: grey and sequential maps, a wheel of directions, colours of time."""

from __future__ import annotations

import functools

import matplotlib
import numpy as np

#: Background of pictures and of panels without a result: dark and neutral.
BACKGROUND = (18, 18, 20)
EMPTY = (38, 38, 42)
TEXT = (238, 238, 238)
FAINT = (178, 178, 182)
#: The one accent (boxes, circles), distinct from grey for every kind of colour vision.
ACCENT = (255, 176, 0)


def srgb_from_linear(linear: np.ndarray) -> np.ndarray:
    """sRGB transfer function (IEC 61966-2-1), values clipped to 0..1."""
    clipped = np.clip(linear, 0, 1)
    return np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)


def linear_from_srgb(encoded: np.ndarray) -> np.ndarray:
    """Inverse of :func:`srgb_from_linear`, values clipped to 0..1."""
    clipped = np.clip(encoded, 0, 1)
    return np.where(clipped <= 0.04045, clipped / 12.92, ((clipped + 0.055) / 1.055) ** 2.4)


def hue_circle(angle_rad: np.ndarray, lightness: float = 0.75, chroma: float = 0.125) -> np.ndarray:
    """Linear RGB of hues at equal lightness and chroma in OKLab (B. Ottosson, 2020).

    Args:
        angle_rad: hue angles of any shape, rad.
        lightness: OKLab L.
        chroma: OKLab chroma; the default stays within sRGB all around.

    Returns:
        Shape ``(*angle_rad.shape, 3)``, linear light, 0..1.
    """
    hue = np.asarray(angle_rad, dtype=np.float64)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    return np.clip(cone**3 @ to_rgb.T, 0, 1)


def direction_colours(displacement_yx: np.ndarray) -> np.ndarray:
    """sRGB ``(..., 3)`` in 0..1 of the direction of displacements ``(..., 2)`` in (y, x); length does not matter."""
    return srgb_from_linear(hue_circle(np.arctan2(displacement_yx[..., 0], displacement_yx[..., 1])))


def time_colours(count: int) -> np.ndarray:
    """Linear RGB ``(count, 3)`` of ``count`` times, equally light, whose sum is neutral (static structure is grey)."""
    span = 2 * np.pi * (count - 1) / count if count <= 3 else 1.6 * np.pi
    hues = 0.5 + (np.linspace(0, span, count) if count > 1 else np.zeros(1))
    colours = hue_circle(hues, lightness=0.72)
    if count == 1:
        return np.ones((1, 3))
    return np.asarray(colours / colours.sum(axis=0))


def depth_colours(count: int) -> np.ndarray:
    """Linear RGB ``(count, 3)`` of planes from the first (blue) to the last (orange), equally light.

    The way leads through pink, so that blue against yellow, which all but the rarest kind of colour vision tell apart,
    grows from plane to plane.
    """
    hues = np.deg2rad(np.linspace(255, 425, count) if count > 1 else np.array([340.0]))
    return hue_circle(hues, lightness=0.78, chroma=0.115)


@functools.cache
def lookup(name: str = "gray") -> np.ndarray:
    """256 colours ``(256, 3)`` uint8 of a matplotlib map (``gray``, ``magma``, ``viridis``: perceptually uniform)."""
    table = matplotlib.colormaps[name](np.arange(256))[:, :3]
    return np.asarray(np.round(table * 255), dtype=np.uint8)
