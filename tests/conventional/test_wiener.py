"""Generalised Wiener reconstruction: truth, intensity scale, borders, mixed acquisitions."""

import json

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.conventional.sim import Wiener, effective_transfer, padded_axis, reconstruct, widefield
from nstm.illumination.sim import estimate
from nstm.optics.lens import Lens
from nstm.simulate.families import draw

OPTICS = {"pixel_um": 0.065, "na": 1.4, "emission_wavelength_um": 0.515}


def _otf(q):
    q = np.minimum(q, 1)
    return 2 / np.pi * (np.arccos(q) - q * np.sqrt(1 - q * q))


def _case(folder, name):
    about = json.loads((folder / "sim" / f"{name}.json").read_text())
    frames = tifffile.imread(folder / "sim" / f"{name}_raw.tif").astype(np.float32) - about["offset"]
    frames = frames.reshape(3, -1, *frames.shape[-2:])
    orders = about["beams"] - 1
    true = {
        "pattern_vectors": (np.array(about["k"])[:, ::-1] / orders).tolist(),
        "phases": about["phases"],
        "modulation": np.array([about["mods"]] + ([about["mods2"]] if orders == 2 else [])).T.tolist(),
        "intensity": np.ones(frames.shape[:2]).tolist(),
    }
    optics = {"pixel_um": about["px"], "na": about["na"], "emission_wavelength_um": about["lam_em"]}
    truth = np.load(folder / "sim" / f"{name}_truth.npz")["gt"].astype(np.float32)
    return frames, optics, about, true, truth


def _psnr(image, truth, pitch, kc):
    """PSNR after the transfer that the truth of these cases was stored with, best gain, borders cut."""
    fy, fx = np.fft.fftfreq(image.shape[0], pitch)[:, None], np.fft.rfftfreq(image.shape[1], pitch)[None, :]
    image = np.fft.irfft2(np.fft.rfft2(image) * _otf(np.hypot(fy, fx) / kc), s=image.shape)
    cut = tuple(slice(n // 8, -(n // 8)) for n in image.shape)
    a, b = image[cut] - image[cut].mean(), truth[cut] - truth[cut].mean()
    a = a * (a * b).sum() / (a * a).sum()
    return 10 * np.log10(np.ptp(b) ** 2 / np.mean((a - b) ** 2))


@pytest.mark.parametrize(
    ("name", "least"), [("b2_512_mid", 47), ("b2_256_mid", 44), ("b3_256_mid", 45), ("b2_256p40_mid", 47)]
)
def test_truth_is_reconstructed_with_estimated_parameters(shared_cases, name, least):
    frames, optics, about, true, truth = _case(shared_cases, name)
    found = estimate(frames, beams=about["beams"], **optics)
    score = {}
    for label, calibration in (("true", true), ("found", found)):
        image = reconstruct(frames, [calibration] * 3, ratio=2.0, **optics)
        assert image.shape == truth.shape
        assert image.dtype == np.float32
        score[label] = _psnr(image, truth, about["px"] / 2, about["cutoff_sim"])
    wide = _psnr(widefield(frames).mean(0), truth, about["px"] / 2, about["cutoff_sim"])
    assert score["found"] > least
    assert score["found"] > score["true"] - 1.0
    assert score["found"] > wide + 10


def test_noise_driven_parameter_is_near_the_best_constant(shared_cases):
    frames, optics, about, true, truth = _case(shared_cases, "b3_256_mid")
    method = Wiener(frames.shape[-2:], [true] * 3, Lens(**optics), ratio=2.0)
    scores = {
        w: _psnr(method(frames, w), truth, about["px"] / 2, about["cutoff_sim"]) for w in ("auto", 1e-3, 3e-4, 1e-4)
    }
    assert scores["auto"] > max(scores.values()) - 0.5


def _uniform(shape, value, levels=(1.0, 1.0, 1.0)):
    """Frames of a uniform object under three patterns and their calibration."""
    k = np.array([[0.0, 4.4], [3.9, 2.1], [-3.7, 2.3]])
    phases = np.tile(np.arange(3) * 2 * np.pi / 3, (3, 1)) + np.array([[0.2], [1.0], [-2.0]])
    y, x = (np.arange(n) * 0.065 for n in shape)
    frames = np.empty((3, 3, *shape), np.float32)
    for a in range(3):
        seen = 0.8 * _otf(np.hypot(*k[a]) * 0.515 / 2.8) * np.prod(np.sinc(k[a] * 0.065))
        for p in range(3):
            wave = 2 * np.pi * (k[a, 0] * y[:, None] + k[a, 1] * x) + phases[a, p]
            frames[a, p] = value * levels[a] * (1 + seen * np.cos(wave))
    calibration = {
        "pattern_vectors": k.tolist(),
        "phases": phases.tolist(),
        "modulation": [[0.8]] * 3,
        "intensity": [[level] * 3 for level in levels],
    }
    return frames, calibration


@pytest.mark.parametrize("ratio", [1.0, 1.5, 1.6, 2.0])
@pytest.mark.parametrize("wiener", ["auto", 0.01])
def test_uniform_object_keeps_its_value(ratio, wiener):
    frames, calibration = _uniform((60, 100), 7.0)
    image = reconstruct(frames, [calibration] * 3, ratio=ratio, wiener=wiener, **OPTICS)
    assert image.shape == (round(60 * ratio), round(100 * ratio))
    inside = image[image.shape[0] // 6 : -image.shape[0] // 6, image.shape[1] // 6 : -image.shape[1] // 6]
    np.testing.assert_allclose(inside, 7.0, rtol=0.02)
    assert image.mean() == pytest.approx(7.0, rel=0.01)
    flat = widefield(frames, ratio)
    assert flat.shape == (3, *image.shape)
    np.testing.assert_allclose(flat, 7.0, rtol=1e-4)


def test_unequal_orientations_come_to_one_scale():
    frames, calibration = _uniform((64, 64), 5.0, levels=(1.4, 1.0, 0.6))
    image = reconstruct(frames, [calibration] * 3, ratio=2.0, wiener=0.01, **OPTICS)
    np.testing.assert_allclose(image[24:-24, 24:-24], 5.0, rtol=0.02)


def test_each_orientation_uses_its_own_calibration(shared_cases):
    """Orientation 1 from an acquisition with other phases: as good as if nothing had changed."""
    frames, optics, about, true, truth = _case(shared_cases, "b2_256_mid")
    other = json.loads(json.dumps(true))
    other["phases"][1] = true["phases"][1][1:] + true["phases"][1][:1]
    mixed = frames.copy()
    mixed[1] = np.roll(frames[1], -1, axis=0)
    right = reconstruct(mixed, [true, other, true], ratio=2.0, **optics)
    np.testing.assert_allclose(right, reconstruct(frames, [true] * 3, ratio=2.0, **optics), atol=0.02)
    wrong = reconstruct(mixed, [true] * 3, ratio=2.0, **optics)
    pitch, kc = about["px"] / 2, about["cutoff_sim"]
    assert _psnr(wrong, truth, pitch, kc) < _psnr(right, truth, pitch, kc) - 5


def test_result_lies_within_the_support_of_the_shifted_bands(shared_cases):
    frames, optics, about, true, _ = _case(shared_cases, "b2_256_mid")
    method = Wiener(frames.shape[-2:], [true] * 3, Lens(**optics), ratio=2.0)
    spectrum = np.abs(np.fft.rfft2(method(frames) * np.hanning(512)[:, None] * np.hanning(512)))
    fy, fx = np.fft.fftfreq(512, about["px"] / 2)[:, None], np.fft.rfftfreq(512, about["px"] / 2)[None, :]
    assert spectrum[np.hypot(fy, fx) > 1.02 * about["cutoff_sim"]].max() < 1e-4 * spectrum.max()


def test_effective_transfer_falls_from_one(shared_cases):
    frames, optics, about, true, _ = _case(shared_cases, "b2_256_mid")
    for wiener in ("auto", 0.01):
        radius, transfer = effective_transfer(frames, [true] * 3, wiener=wiener, ratio=2.0, **optics)
        assert transfer[0] == pytest.approx(1, abs=0.02)
        assert np.all(transfer[radius > 1.02 * about["cutoff_sim"]] < 1e-3)
        assert transfer[np.searchsorted(radius, 5.5)] > 0.3


def test_borders_cost_nothing(shared_cases):
    frames, optics, _, true, _ = _case(shared_cases, "b2_512_mid")
    whole = reconstruct(frames, [true] * 3, ratio=2.0, wiener=1e-3, **optics)
    part = reconstruct(frames[..., :200, :240], [true] * 3, ratio=2.0, wiener=1e-3, **optics)
    inner = (slice(0, 370), slice(0, 450))  # 15 camera pixels from the cut
    assert np.sqrt(np.mean((part[inner] - whole[inner]) ** 2)) < 0.06 * whole.std()


def test_odd_ratios_are_refused():
    with pytest.raises(DataError, match="fraction"):
        padded_axis(64, 1.2345678)
    frames, calibration = _uniform((40, 40), 1.0)
    with pytest.raises(DataError, match="calibrations"):
        reconstruct(frames, [calibration], ratio=2.0, **OPTICS)


def test_attenuation_takes_light_from_out_of_focus_away():
    """Of a hazy recording less of the haze is left, of one without haze the sample stays."""
    for family, least, most in (("haze", 0.3, 5), ("usual", -1, 1)):
        recording = draw(family, 1, side=96)
        frames, true = recording.frames[0].astype(np.float32) - 100, recording.calibration
        truth, m = recording.truth[0], recording.microscope
        fy, fx = np.fft.fftfreq(192, m.pixel_um / 2)[:, None], np.fft.rfftfreq(192, m.pixel_um / 2)
        seen = np.fft.irfft2(np.fft.rfft2(truth) * _otf(np.hypot(fy, fx) / m.reach), s=truth.shape)
        plain, weighted = (
            _psnr(reconstruct(frames, [true] * 3, attenuation=a, **OPTICS), seen, m.pixel_um / 2, m.reach)
            for a in (0.0, 0.998)
        )
        assert least < weighted - plain < most


def test_wrong_intensities_leave_no_stripes(monkeypatch):
    """Two per cent of light too much in a frame shows as the pattern, unless the orders' centres are left out."""
    frames, calibration = _uniform((128, 160), 100.0)
    frames[1, 0] *= 1.02
    stripes = {}
    for bins in (0.05, 1.5):
        monkeypatch.setattr("nstm.conventional.sim.SINGULAR_BINS", bins)
        stripes[bins] = reconstruct(frames, [calibration] * 3, wiener=1e-3, **OPTICS)[32:-32, 32:-32].std()
    # what is left is the pattern in order 0
    assert stripes[1.5] < 0.6 * stripes[0.05]
