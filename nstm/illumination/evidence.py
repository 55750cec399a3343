"""What the frames of one labelling tell of it: whether they are orientations and phases of a pattern at all.

A wrong label mixes orientations, phases, sections and times. Only under the right one do the phases of every
orientation show the same sample under one pattern vector that steps by equal phases, in all sections and at all times;
another vector in every orientation, of the same length; and the same light over the phases. No optics are needed.

With ``B_j = sum_p frame_p exp(-2 pi i j p / phases)`` the pattern shows as a peak at ``o k`` in the cross-correlation
of ``B_o`` with ``B_0`` (Gustafsson 2000), both whitened. At the same place the other ``B_j`` hold what does not step
evenly, and at 0 ``B_o`` holds what changes from frame to frame and is no pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.fft

from nstm.acquisition import DataError
from nstm.illumination.bands import radial_mean, ring_index, soft_edges

#: Pixels per side below which frames tell nothing.
LEAST_PX = 32
#: Lengths of the vectors that are searched, cycles per pixel; nearer to 0 is haze.
SEARCH = (0.05, 0.5)
#: Bins around 0 that hold the shape of the field.
CENTRE_BINS = 3
#: Power over chance at which a match is worth half a point: chance reaches 10 to 15 in a field of 256 x 256.
HALF_STRENGTH = 30.0
#: Order 2 counts up to this many times order 1: alone it is a pattern that steps by twice the phase.
SECOND_OVER_FIRST = 4.0
#: Share between frames that is worth half a point: 0.4 to 0.7 in recordings, 0.05 to 0.3 across sections. With fewer
#: phases most of the match is of frames with themselves, and motion leaves nothing of the rest to judge.
HALF_SHARED, PHASES_TO_SHARE = 0.3, 5
#: Bins beside a peak that belong to it.
PEAK_BINS = 5
#: Vectors nearer than this, in bins, are the same.
SAME_BINS = 2.0
#: Vectors of the orientations of one instrument have nearly the same length.
LENGTH_SPREAD = 0.1
#: What speaks against a label, in words: below these a match may be chance, or is not what it should be.
CLEAR_STRENGTH, CLEAR_CONTRAST, GOOD_EVENNESS, GOOD_SHARED, GOOD_CONSTANCY = 15.0, 0.25, 0.9, 0.2, 0.75
#: Relative scatter of the light within an orientation that costs half of BRIGHTNESS_WEIGHT; the sample's own content
#: moves the mean of a frame by a percent.
SCATTER = 0.03
#: What brightness can take from the score at most: lamps flicker and samples move, the pattern has the last word.
BRIGHTNESS_WEIGHT = 0.3
#: Words for evidence that nothing speaks against.
CONVINCING = "patterns found, phases even"


@dataclass(frozen=True)
class Evidence:
    """What speaks for one labelling of the frames."""

    score: float  # 0 to 1, see `order_evidence`
    strength: float  # power of the pattern's match over that of chance, mean over orientations, sections and times
    contrast: float  # share of that power that the next best vector does not reach, mean over orientations
    evenness: float  # share of the frames' changes that is a pattern stepping by equal phases
    shared: float  # how far the frames of an orientation show the same sample, 0 to 1; 1 with fewer than 5 phases
    constant: float  # share of sections and times in which an orientation shows its vector
    distinct: int  # orientations with a vector of their own, of the length that most have
    phase_error_deg: float  # deviation of the measured phases from equal steps, rms
    scatter: float  # relative scatter of the light over the phases of an orientation, rms, trend removed
    step: float  # relative scatter of the light between orientations, rms
    vectors: tuple[tuple[float, float], ...]  # (ky, kx) of order 1, cycles per pixel

    @property
    def words(self) -> str:
        """What stands out, in a few words."""
        if self.strength < CLEAR_STRENGTH:
            return "no clear pattern"
        if self.evenness < GOOD_EVENNESS:
            return "phases do not step evenly"
        if self.shared < GOOD_SHARED:
            return "phases are not of the same sample"
        if self.constant < GOOD_CONSTANCY:
            return "patterns change between sections or times"
        if self.contrast < CLEAR_CONTRAST:
            return "no clear pattern"
        if self.distinct < len(self.vectors):
            return "orientations do not have patterns of their own"
        return CONVINCING


def order_evidence(
    frames: np.ndarray,
    *,
    recorded: np.ndarray | None = None,
    passband: float | None = None,
    offset: float = 0.0,
) -> Evidence:
    """Evidence that frames are labelled rightly.

    The score is the mean over orientations of ``contrast x evenness x strength / (strength + 30) x 1.3 shared /
    (shared + 0.3)``, averaged over sections and times at one vector; an orientation without a vector of its own, as
    long as those of the others, counts 0. Light that changes over the phases takes up to 30 % off.

    Args:
        frames: ``(angle, phase, repeat, y, x)``, counts, at least 3 phases; along ``repeat`` stand sections or times,
            anything over which the pattern of an orientation is the same.
        recorded: ``(angle, phase, repeat)`` number of each frame in the file; given, a trend of the light is allowed.
        passband: highest frequency that the objective transfers, cycles per pixel; ``None``: all are searched.
        offset: counts of a dark frame.

    Raises:
        DataError: the shape or the values of ``frames`` tell nothing.
    """
    frames = _checked(frames)
    orientations = [_Orientation([_Match(f, passband) for f in np.moveaxis(images, 1, 0)]) for images in frames]
    vectors = np.array([o.vector for o in orientations])
    distinct = _distinct(vectors, np.array(frames.shape[-2:]))
    strength, evenness, shared, phase_error = (
        np.array([getattr(o, name) for o in orientations]) for name in ("strength", "evenness", "shared", "phase_error")
    )
    contrast = np.array([o.contrast for o in orientations])
    alike = (1 + HALF_SHARED) * shared / (shared + HALF_SHARED)
    quality = contrast * np.mean(evenness * alike * strength / (strength + HALF_STRENGTH), axis=1)
    scatter, step = _brightness(frames.mean(axis=(-2, -1), dtype=np.float64) - offset, recorded)
    steadiness = 1 - BRIGHTNESS_WEIGHT * scatter**2 / (scatter**2 + SCATTER**2)
    weight = strength + 1e-9
    return Evidence(
        score=float(np.mean(quality * distinct) * steadiness),
        strength=float(strength.mean()),
        contrast=float(contrast.mean()),
        evenness=float(np.average(evenness, weights=weight)),
        shared=float(np.average(shared, weights=weight)),
        constant=float(np.mean(strength > 0.2 * strength.max(axis=1, keepdims=True))),
        distinct=int(distinct.sum()),
        phase_error_deg=float(np.degrees(np.sqrt(np.mean(phase_error)))),
        scatter=scatter,
        step=step,
        vectors=tuple((float(y), float(x)) for y, x in vectors),
    )


def _checked(frames: np.ndarray) -> np.ndarray:
    if frames.ndim != 5 or frames.shape[1] < 3:
        raise DataError(
            f"frames have shape {frames.shape}, expected (angle, phase, repeat, y, x) with 3 phases or more"
        )
    if min(frames.shape[-2:]) < LEAST_PX:
        size = " x ".join(map(str, frames.shape[-2:]))
        raise DataError(f"planes of {size} pixels tell nothing of their order, {LEAST_PX} x {LEAST_PX} are needed")
    frames = np.asarray(frames, np.float32)
    if not np.all(np.isfinite(frames)):
        raise DataError("frames hold NaN or infinity: remove or repair those frames first")
    return frames


@dataclass(frozen=True)
class _Grid:
    """What depends on the size of the field only; frequencies in cycles per pixel."""

    shape: tuple[int, int]

    @property
    def ring_step(self) -> float:
        return 2 / min(self.shape)

    @cached_property
    def radius(self) -> np.ndarray:
        return _radius(self.shape)

    @cached_property
    def ring(self) -> np.ndarray:
        return ring_index(self.radius, self.ring_step)

    @cached_property
    def fine_radius(self) -> np.ndarray:
        """Of the map of matches, which is sampled twice as finely."""
        return _radius((2 * self.shape[0], 2 * self.shape[1]))

    @cached_property
    def window(self) -> np.ndarray:
        return soft_edges(self.shape)


_grid = lru_cache(maxsize=2)(_Grid)


def _radius(shape: tuple[int, int]) -> np.ndarray:
    fy, fx = (np.fft.fftfreq(n).astype(np.float32) for n in shape)
    return np.hypot(fy[:, None], fx[None, :])


class _Match:
    """The match of the bands of one orientation in one section at one time."""

    def __init__(self, stack: np.ndarray, passband: float | None) -> None:
        self.grid = _grid(stack.shape[1:])
        self.phases, self.orders = len(stack), min((len(stack) - 1) // 2, 2)
        changes = (stack - stack.mean(axis=(1, 2), keepdims=True)) * self.grid.window
        spectra = scipy.fft.fft2(changes / max(float(np.abs(changes).max()), 1e-30), workers=1)
        zero, order = (scipy.fft.ifft2(spectra * w, workers=1) for w in self._weights(spectra, passband))
        #: Products of every band with band 0, whose transforms are the cross-correlations.
        self.products = scipy.fft.fft(order, axis=0) * np.conj(zero.sum(axis=0)) / len(stack)
        #: What every frame adds to them with itself alone.
        self.alone = scipy.fft.fft(order * np.conj(zero), axis=0) / len(stack)

    def _weights(self, spectra: np.ndarray, passband: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Weights of band 0, and of the others, that make all frequencies equal, times the square of their signal.

        The signal is the share of band 0 that is not noise; square, as the transfer functions fall together with it.
        """
        grid, total = self.grid, np.sum(np.abs(spectra) ** 2, axis=0)
        power = np.abs(spectra.sum(axis=0)) ** 2 / len(spectra)
        rings, zero = radial_mean(power, grid.ring, grid.ring_step)
        _, changing = radial_mean((total - power) / (len(spectra) - 1), grid.ring, grid.ring_step)
        inside = rings < SEARCH[1]
        noise = max(float(min(zero[inside].min(), changing[inside].min())), 1e-6 * float(zero.max()), 1e-30)
        signal = np.clip(1 - noise / np.maximum(zero, noise), 0, 1) ** 2
        signal[rings < CENTRE_BINS / min(grid.shape)] = 0
        if passband is not None:
            signal[rings > passband] = 0
        first, others = (
            np.interp(grid.radius, rings, signal / np.sqrt(np.maximum(p, noise))).astype(np.float32)
            for p in (zero, changing)
        )
        return first, others

    @cached_property
    def chance(self) -> tuple[np.ndarray, np.ndarray]:
        """Radii, and mean power of chance matches there: the geometric mean of a ring does not see a peak."""
        found = scipy.fft.fft2(self.products[1], workers=1)
        logs = np.log(np.maximum(found.real**2 + found.imag**2, np.float32(1e-30)))
        rings, mean = radial_mean(logs, self.grid.ring, self.grid.ring_step)
        return rings, np.exp(mean + np.euler_gamma)

    def _over_chance(self, power: np.ndarray, radius: np.ndarray) -> np.ndarray:
        # near 0, changes of the sample would pass for chance
        return power / np.interp(np.maximum(radius, SEARCH[0]), *self.chance).astype(np.float32)

    def powers(self) -> list[np.ndarray]:
        """Power over chance (mean 1) for every vector: of order 1 on the fine grid, of order 2 (if any) on the grid."""
        grids = [self.grid.fine_radius, self.grid.radius][: self.orders]
        found = [scipy.fft.fft2(self.products[o], s=r.shape, workers=1) for o, r in enumerate(grids, 1)]
        return [self._over_chance(f.real**2 + f.imag**2, r) for f, r in zip(found, grids, strict=True)]

    def at(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Complex match of every band at ``vector`` (cycles per pixel), and of it what frames have with themselves."""
        waves = [np.exp(-2j * np.pi * v * np.arange(n)) for v, n in zip(vector, self.grid.shape, strict=True)]
        wave = (waves[0][:, None] * waves[1]).astype(np.complex64)
        scale = np.sqrt(self._over_chance(np.ones(1, np.float32), np.hypot(*vector).reshape(1)))
        return np.sum(self.products * wave, axis=(1, 2)) * scale, np.sum(self.alone * wave, axis=(1, 2)) * scale


class _Orientation:
    """What the matches of one orientation, in several sections or at several times, have in common."""

    def __init__(self, matches: Sequence[_Match]) -> None:
        grid = matches[0].grid
        first, *second = (np.mean(maps, axis=0) for maps in zip(*(m.powers() for m in matches), strict=True))
        both = first
        if second:  # sample i of the fine grid is i / 2 bins: its order 2 lies at bin i
            low = np.ix_(*(np.fft.fftfreq(n, 1 / n).astype(int) for n in grid.shape))
            both[low] += np.minimum(second[0], SECOND_OVER_FIRST * both[low])
        both[~_searched(grid.fine_radius)] = 0
        place = np.array(np.unravel_index(int(np.argmax(both)), both.shape))
        best, others = float(both[tuple(place)]), [_elsewhere(both, place, 2 * PEAK_BINS)]
        #: The vector of order 1 that fits all best, (y, x), cycles per pixel.
        self.vector = np.array([np.fft.fftfreq(n)[i] for n, i in zip(both.shape, place, strict=True)])
        if second:  # a pattern of order 2 that does not belong to the vector
            second[0][~_searched(grid.radius)] = 0
            others.append(_elsewhere(second[0], np.rint(2 * self.vector * grid.shape).astype(int), PEAK_BINS))
        #: Share of the peak's power that no other vector reaches.
        self.contrast = max(1 - max(others) / best, 0.0) if best > 0 else 0.0
        judged = [_judged(match, self.vector) for match in matches]
        #: Of every match: power over chance, evenness, share between frames, mean squared phase error (rad).
        self.strength, self.evenness, self.shared, self.phase_error = np.array(judged).T


def _searched(radius: np.ndarray) -> np.ndarray:
    return (radius >= SEARCH[0]) & (radius <= SEARCH[1])


def _elsewhere(power: np.ndarray, place: np.ndarray, reach: int) -> float:
    """Highest power further than ``reach`` samples from ``place``."""
    around = np.arange(-reach, reach + 1)
    rest = power.copy()
    rest[np.ix_(*((around + i) % n for i, n in zip(place, power.shape, strict=True)))] = 0
    return float(rest.max())


def _judged(match: _Match, vector: np.ndarray) -> tuple[float, float, float, float]:
    """Power over chance, evenness, share between frames and mean squared phase error (rad) of a match at ``vector``."""
    orders = [o for o in range(1, match.orders + 1) if o == 1 or np.abs(o * vector).max() < 0.5]
    found, alone = zip(*(match.at(o * vector) for o in orders), strict=True)
    power = np.array([np.abs(f[o]) ** 2 for o, f in zip(orders, found, strict=True)])
    best = int(np.argmax(power))
    strength = power[0] + np.sum(np.minimum(power[1:], SECOND_OVER_FIRST * power[0]))
    shared = _shared(power, [f[o] - g[o] for o, f, g in zip(orders, found, alone, strict=True)], match.phases)
    return float(strength), _evenness(match, orders, found), shared, _phase_error(found[best], orders[best])


def _evenness(match: _Match, orders: Sequence[int], found: Sequence[np.ndarray]) -> float:
    """Share of the power at the vector and at 0, chance (1 in every band) taken off, that steps evenly."""
    stepping = sum(abs(f[o]) ** 2 for o, f in zip(orders, found, strict=True))
    changing = sum(np.sum(np.abs(f[1:]) ** 2) for f in found)
    without_pattern = np.sum(np.abs(match.at(np.zeros(2))[0][orders]) ** 2)
    even = max(stepping - len(orders), 0)
    uneven = max(changing - stepping - len(orders) * (match.phases - 2), 0)
    return float(even / max(even + uneven + max(without_pattern - len(orders), 0), 1e-9))


def _shared(power: np.ndarray, between: Sequence[complex], phases: int) -> float:
    """Power of the match of frames with other frames, in units of what a pattern on one sample gives; at most 1."""
    if phases < PHASES_TO_SHARE:
        return 1.0
    # on one sample, frames by themselves hold the share 2 / phases of the amplitude
    expected = (1 - 2 / phases) ** 2 * float(power.sum())
    return min(float(np.sum(np.abs(between) ** 2)) / max(expected, 1e-9), 1.0)


def _phase_error(found: np.ndarray, order: int) -> float:
    """Mean squared deviation (rad, of order 1) of the phases of the frames from equal steps."""
    changing = np.array([0, *found[1:]])
    expected = found[order] * np.exp(2j * np.pi * order * np.arange(found.size) / found.size)
    return float(np.mean(np.angle(np.fft.ifft(changing) * np.conj(expected)) ** 2)) / order**2


def _distinct(vectors: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Whether each vector ``(n, 2)`` differs from all others, the sign left out, and has the length most have."""
    length = np.hypot(*vectors.T)
    middle = float(np.median(length))
    alike = np.abs(length - middle) <= LENGTH_SPREAD * middle + 1 / shape.min()
    apart = np.min([np.hypot(*((vectors[:, None] - s * vectors) * shape).T) for s in (1, -1)], axis=0)
    np.fill_diagonal(apart, np.inf)
    return alike & (apart >= SAME_BINS).all(axis=0)


def _brightness(means: np.ndarray, recorded: np.ndarray | None) -> tuple[float, float]:
    """Relative scatter of the light ``(angle, phase, repeat)`` over phases, trend removed, and over orientations."""
    if means.max() <= 0:
        return 0.0, 0.0
    light = np.log(np.maximum(means, 1e-3 * means.max()))
    within = light - light.mean(axis=1, keepdims=True)
    free = within.size - means.shape[0] * means.shape[2]
    if recorded is not None:
        number = recorded - recorded.mean(axis=1, keepdims=True)
        within = within - number * np.sum(within * number) / max(float(np.sum(number * number)), 1e-9)
        free -= 1
    step = light.mean(axis=1).std(axis=0)
    return float(np.sqrt(np.sum(within**2) / free)), float(np.sqrt(np.mean(step**2)))
