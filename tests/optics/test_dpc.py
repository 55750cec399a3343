"""Sources and transfer functions of DPC against the published simulator, their definition and a coherent simulation."""

import numpy as np
import pytest

from nstm.acquisition import DataError
from nstm.optics.dpc import HalfDiscs, Leds, Lens, SourceMap, transfer_functions

LENS = Lens(na=0.25, wavelength_um=0.525)
PIXEL = 0.454
ROTATIONS = (0, 90, 180, 270)


def frequencies(side, pixel=PIXEL):
    return np.fft.fftfreq(side, pixel)[:, None], np.fft.fftfreq(side, pixel)[None, :]


def simulated(phase, absorption, waves, pixel=PIXEL):
    """Exact image over background, minus 1: intensities of the plane waves ``(fy, fx, brightness)`` added up."""
    fy, fx = frequencies(len(phase), pixel)
    y, x = np.indices(phase.shape) * pixel
    sample, pupil = np.exp(1j * phase - absorption), LENS.pupil(fy, fx)
    image = background = 0
    for ky, kx, brightness in waves:
        wave = np.exp(2j * np.pi * (ky * y + kx * x))
        image += brightness * np.abs(np.fft.ifft2(pupil * np.fft.fft2(sample * wave))) ** 2
        background += brightness * np.abs(np.fft.ifft2(pupil * np.fft.fft2(wave))) ** 2
    return image / background - 1


def linear(transfer, phase, absorption, source=0):
    spectrum = transfer.absorption[source] * np.fft.rfft2(absorption)
    spectrum = spectrum + 1j * transfer.phase[source] * np.fft.rfft2(phase)
    return np.fft.irfft2(spectrum, s=phase.shape)


def bump(side, centre, width=1.5):
    y, x = np.indices((side, side))
    return np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))


def off(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("case", ["dpc_swirl", "dpc64_swirl"])
@pytest.mark.parametrize("measured", [False, True])
def test_published_sources_and_transfer_functions_are_reproduced(shared_cases, case, measured):
    with np.load(shared_cases / "spacetime" / f"{case}.npz") as held:
        data = dict(held)
    side = len(data["pupil"])
    fy, fx = frequencies(side)
    halves = HalfDiscs(ROTATIONS, outer_na=0.25)
    np.testing.assert_array_equal(LENS.pupil(fy, fx), data["pupil"])
    np.testing.assert_array_equal(halves.on(fy, fx, LENS), data["s"])
    sources = SourceMap(data["s"], (1 / (side * PIXEL), 1 / (side * PIXEL))) if measured else halves
    found = transfer_functions(sources, (side, side), PIXEL, LENS, "led")
    half = np.s_[..., : side // 2 + 1]
    np.testing.assert_allclose(-found.absorption, data["Hu"][half], atol=1e-6)
    # its phase is in rad um: the wavelength is in its transfer function
    np.testing.assert_allclose(1j * found.phase, data["Hp"][half] * LENS.wavelength_um, atol=1e-6)


def test_half_discs_of_any_rotation_follow_the_published_rule():
    fy, fx = frequencies(64)
    for rotation in (0, 30, 45, 90, 135, 180, 225, 250, 270, 315):
        r = np.deg2rad(rotation)
        shines = LENS.pupil(fy, fx) > 0
        if rotation < 180:
            shines &= fy * np.cos(r) + 1e-15 >= fx * np.sin(r)
        else:
            shines &= ~(fy * np.cos(r) + 1e-15 < fx * np.sin(r))
        np.testing.assert_array_equal(HalfDiscs([rotation], 0.25).on(fy, fx, LENS)[0] > 0, shines)


def sources_and_their_waves(kind, side):
    """Sources in the coordinates of their waves, and those waves; off the axes, on frequencies of the field."""
    step = 1 / (side * PIXEL)
    if kind == "half disc":
        fy, fx = frequencies(side)
        halves = HalfDiscs([90], 0.25)
        at = zip(*np.nonzero(halves.on(fy, fx, LENS)[0]), strict=True)
        return halves, [(fy[i, 0], fx[0, j], 1.0) for i, j in at]
    waves = [(3 * step, 9 * step, 1.0), (-1 * step, 11 * step, 0.5), (7 * step, -2 * step, 2.0)]
    return Leds([[(y * LENS.wavelength_um, x * LENS.wavelength_um, b) for y, x, b in waves]]), waves


@pytest.mark.parametrize("coordinates", ["wave", "led"])
@pytest.mark.parametrize("kind", ["half disc", "LEDs"])
def test_weak_samples_look_as_an_exact_coherent_simulation_makes_them(coordinates, kind):
    """Every other sign of the phase or the absorption is wrong by far."""
    side, strength = 64, 1e-3
    phase, absorption = strength * bump(side, (30, 33)), strength * bump(side, (33, 31))
    sources, waves = sources_and_their_waves(kind, side)
    if coordinates == "led":
        waves = [(-y, -x, brightness) for y, x, brightness in waves]
    transfer = transfer_functions(sources, (side, side), PIXEL, LENS, coordinates)
    exact = simulated(phase, absorption, waves)
    assert off(linear(transfer, phase, absorption), exact) < 5e-3
    for wrong in ((-phase, absorption), (phase, -absorption), (-phase, -absorption)):
        assert off(linear(transfer, *wrong), exact) > 0.15


def test_transfer_is_what_its_definition_says():
    """C(u) = sum S(v) P(v) P(v - u) summed up directly, for sources without any symmetry."""
    side = 40
    fy, fx = frequencies(side)
    pupil = LENS.pupil(fy, fx)
    brightness = np.random.default_rng(0).uniform(size=(2, side, side)) * pupil
    found = transfer_functions(SourceMap(brightness, (1 / (side * PIXEL),) * 2), (side, side), PIXEL, LENS, "wave")
    for source in range(2):
        lit = brightness[source] * pupil
        for iy, ix in ((0, 0), (1, 2), (-3, 4), (5, 0), (-2, 7)):
            shifted = [np.roll(pupil, (s * iy, s * ix), (0, 1)) for s in (1, -1)]
            plus, minus = ((lit * p).sum() / lit.sum() for p in shifted)
            np.testing.assert_allclose(found.absorption[source, iy, ix], -(plus + minus), atol=1e-12)
            np.testing.assert_allclose(found.phase[source, iy, ix], -(plus - minus), atol=1e-12)


def test_the_phase_of_a_symmetric_source_is_invisible_and_opposite_halves_are_opposite():
    found = transfer_functions(HalfDiscs(ROTATIONS, 0.2, 0.1), (48, 64), PIXEL, LENS, "led")
    np.testing.assert_allclose(found.phase[0], -found.phase[2], atol=1e-12)
    np.testing.assert_allclose(found.absorption[1], found.absorption[3], atol=1e-12)
    assert np.all(found.phase[:, 0, 0] == 0)
    np.testing.assert_allclose(found.absorption[:, 0, 0], -2)
    lamp = transfer_functions(Leds([[(0.1, 0.05, 1), (-0.1, -0.05, 1)]]), (48, 64), PIXEL, LENS, "led")
    np.testing.assert_allclose(lamp.phase, 0, atol=1e-12)


def test_coarse_pixels_change_no_transfer_that_they_can_show():
    """Frequencies beyond those of the pixels must not fold back."""
    fine = transfer_functions(HalfDiscs(ROTATIONS, 0.25), (64, 64), PIXEL, LENS, "led")
    coarse = transfer_functions(HalfDiscs(ROTATIONS, 0.25), (32, 32), 2 * PIXEL, LENS, "led")
    rows = np.r_[0:16, -15:0]
    np.testing.assert_allclose(coarse.phase[:, rows, :16], fine.phase[:, rows, :16], atol=1e-12)
    assert np.all(coarse.phase[:, 16] == 0)
    assert np.all(coarse.absorption[..., 16] == 0)


def test_a_ring_thinner_than_the_frequencies_of_a_small_field_is_still_seen():
    ring = HalfDiscs(ROTATIONS, 0.25, 0.235)
    small = transfer_functions(ring, (40, 40), PIXEL, LENS, "led")
    large = transfer_functions(ring, (640, 640), PIXEL, LENS, "led")
    rows = np.r_[0:20, -19:0]
    np.testing.assert_allclose(small.phase[:, rows, :20], large.phase[:, 16 * rows, : 16 * 20 : 16], atol=0.03)


def test_a_map_serves_images_of_another_size():
    fy, fx = frequencies(256)
    halves = HalfDiscs(ROTATIONS, 0.25)
    source = SourceMap(halves.on(fy, fx, LENS), (1 / (256 * PIXEL),) * 2)
    found, expected = (transfer_functions(s, (100, 90), PIXEL, LENS, "led") for s in (source, halves))
    np.testing.assert_allclose(found.phase, expected.phase, atol=0.04)
    np.testing.assert_allclose(found.absorption, expected.absorption, atol=0.08)


def test_dark_field_is_refused():
    with pytest.raises(DataError, match=r"source 1 .* no light through the objective"):
        transfer_functions(Leds([[(0, 0.1, 1)], [(0, 0.4, 1)]]), (32, 32), PIXEL, LENS, "led")
    with pytest.raises(DataError, match="source 0"):
        transfer_functions(HalfDiscs([0], 0.5, 0.3), (32, 32), PIXEL, LENS, "led")
