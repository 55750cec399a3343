"""Borders of a field: the periodic grid of the transforms, and what fills it around the field."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import scipy.fft

from nstm.acquisition import DataError
from nstm.optics.grids import samples

#: The field is continued by at least this many camera pixels, so that its borders do not meet.
PADDING_PX = 12


@dataclass(frozen=True)
class PaddedAxis:
    """One side of the field within the periodic grid of the transforms."""

    field: int
    before: int  # camera pixels in front of the field
    camera: int  # camera pixels of the grid
    fine: int  # result pixels of the grid
    start: int  # first result pixel of the field
    size: int  # result pixels of the field


def padded_axis(field: int, ratio: float, padding: int = PADDING_PX, multiple: int = 2) -> PaddedAxis:
    """Grid for a side of ``field`` camera pixels on which camera and result share sample 0 of the field.

    ``multiple``: what the number of result pixels of the grid is divisible by.

    Raises:
        DataError: ``ratio`` is no simple fraction.
    """
    fraction = Fraction(ratio).limit_denominator(32)
    if abs(float(fraction) - ratio) > 1e-6 or fraction < 1:
        raise DataError(
            f"{ratio} result pixels per camera pixel: use a simple fraction of at least 1, such as 2 or 1.6"
        )
    q = fraction.denominator
    before = -(-padding // q) * q
    camera = -(-(before + field + padding) // q) * q
    while camera % 2 or round(camera * fraction) % multiple or scipy.fft.next_fast_len(camera) != camera:
        camera += q
    return PaddedAxis(field, before, camera, round(camera * fraction), round(before * fraction), samples(field, ratio))


def continued(frames: np.ndarray, axis: PaddedAxis, along: int) -> np.ndarray:
    """Fill the grid around the field by its reflections, each fading into that of the opposite border."""
    gap = axis.camera - axis.field
    if gap == 0:
        return frames
    shape = list(frames.shape)
    shape[along] = axis.camera
    out = np.empty(shape, frames.dtype)
    grid, frames = np.moveaxis(out, along, -1), np.moveaxis(frames, along, -1)
    reach = np.minimum(np.arange(gap), axis.field - 1)
    fade = (np.sin(0.5 * np.pi * (np.arange(gap) + 0.5) / gap) ** 2).astype(np.float32)
    end, begin = frames[..., axis.field - 1 - reach], frames[..., reach[::-1]]
    between = end + (begin - end) * fade
    grid[..., : axis.before] = between[..., gap - axis.before :]
    grid[..., axis.before : axis.before + axis.field] = frames
    grid[..., axis.before + axis.field :] = between[..., : gap - axis.before]
    return out
