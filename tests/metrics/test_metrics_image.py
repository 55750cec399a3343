"""PSNR, SSIM and ring equalisation against images whose figures are known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nstm.acquisition import DataError
from nstm.metrics import equalise, limit, psnr, psnr_equalised, psnr_plain, resample, ring_equalise, ssim
from nstm.metrics.image import crop, filtered

PIXEL = 0.05  # Nyquist 10 cycles/um


def texture(shape=(96, 96), seed=0, sigma=1.5):
    return gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma, mode="wrap")


def wave(shape, cycles, pixel=PIXEL):
    """A plane wave with whole numbers of cycles over the field, and its frequency."""
    y, x = np.indices(shape)
    f = np.hypot(cycles[0] / shape[0], cycles[1] / shape[1]) / pixel
    return np.cos(2 * np.pi * (cycles[0] * y / shape[0] + cycles[1] * x / shape[1])), f


def test_psnr_of_known_noise():
    truth = texture((256, 256))
    noise = 0.05 * np.random.default_rng(1).standard_normal(truth.shape)
    signal, power = np.var(crop(truth)), 0.05**2
    left = power * signal / (signal + power)  # what noise leaves after the least-squares gain
    expected = 10 * np.log10(np.ptp(crop(truth)) ** 2 / left)
    assert psnr(truth + noise, truth) == pytest.approx(expected, abs=0.1)


def test_mean_and_gain_do_not_count():
    truth = texture()
    image = truth + 0.1 * texture(seed=3)
    assert psnr(7 * image + 300, truth) == pytest.approx(psnr(image, truth), abs=1e-6)
    assert psnr_plain(0.01 * image - 5, truth, PIXEL, 8) == pytest.approx(psnr_plain(image, truth, PIXEL, 8), abs=1e-6)


def test_border_does_not_count():
    truth = texture()
    image = truth + 0.1 * texture(seed=3)
    spoiled = image.copy()
    spoiled[:12] = spoiled[-12:] = 50
    spoiled[:, :12] = spoiled[:, -12:] = 50
    assert psnr(spoiled, truth) == psnr(image, truth)


def test_limit_and_equalise_are_the_stated_filters():
    low, f_low = wave((80, 80), (3, 5))
    high, f_high = wave((80, 80), (20, 24))
    kc = 6.0
    assert f_low < kc < f_high
    np.testing.assert_allclose(limit(low + high, PIXEL, kc), low, atol=1e-9)
    np.testing.assert_allclose(equalise(low + high, PIXEL, kc), (1 - f_low / kc) * low, atol=1e-9)


def test_plain_charges_what_lies_beyond_kc_and_equalised_does_not():
    low, _ = wave((80, 80), (3, 5))
    high, _ = wave((80, 80), (20, 24))
    truth = low + 0.1 * high
    assert psnr_equalised(low, truth, PIXEL, 6.0) > 100
    error = np.mean(crop(0.1 * high) ** 2)
    expected = 10 * np.log10(np.ptp(crop(truth)) ** 2 / error)
    assert psnr_plain(truth, truth, PIXEL, 6.0) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("old", "new"), [((64, 64), (96, 80)), ((96, 80), (64, 64)), ((65, 48), (48, 65))])
def test_resample_keeps_waves_and_sample_zero(old, new):
    coarse, _ = wave(old, (5, 7))
    fine, _ = wave(new, (5, 7))
    np.testing.assert_allclose(resample(coarse, new), fine, atol=1e-9)


def test_image_on_another_grid_is_brought_to_the_truths():
    truth = limit(texture((80, 80)), PIXEL, 6.0)
    image = resample(truth, (128, 128))
    assert psnr_plain(image, truth, PIXEL, 8.0) > 100


def test_planes_are_averaged():
    truth = np.stack([texture(seed=1), texture(seed=2)])
    image = truth + 0.1 * np.stack([texture(seed=3), texture(seed=4)])
    each = [psnr_equalised(image[i], truth[i], PIXEL, 8) for i in (0, 1)]
    assert psnr_equalised(image, truth, PIXEL, 8) == pytest.approx(np.mean(each))
    with pytest.raises(DataError, match="planes"):
        psnr_plain(image, truth[:1], PIXEL, 8)


def test_nan_has_no_figure():
    truth = texture()
    image = truth.copy()
    image[40, 40] = np.nan
    assert np.isnan(psnr_plain(image, truth, PIXEL, 8))
    assert np.isnan(ssim(image, truth, PIXEL, 8))
    assert np.isnan(ring_equalise(image, truth, PIXEL, 8)).all()


def test_ring_equalisation_undoes_a_radial_transfer():
    truth = limit(texture((128, 128), sigma=1.0), PIXEL, 8.0)
    blurred = filtered(truth, PIXEL, lambda f: np.exp(-((f / 5) ** 2)))
    before = psnr_equalised(blurred, truth, PIXEL, 8)
    after = psnr_equalised(ring_equalise(blurred, truth, PIXEL, 8), truth, PIXEL, 8)
    assert after > before + 10


def test_ring_equalisation_does_not_help_a_wrong_image():
    truth, other = texture(seed=1), texture(seed=2)
    assert psnr_equalised(ring_equalise(other, truth, PIXEL, 8), truth, PIXEL, 8) < psnr_equalised(
        truth + 0.5 * other, truth, PIXEL, 8
    )


def test_ssim_of_the_same_and_of_noise():
    truth = limit(texture(), PIXEL, 6.0)
    assert ssim(3 * truth, truth, PIXEL, 7.0) == pytest.approx(1, abs=1e-6)
    noisy = truth + np.random.default_rng(0).standard_normal(truth.shape)
    assert ssim(noisy, truth, PIXEL, 7.0) < 0.6


def test_limits_of_the_single_plane_case(shared_cases):
    """The passband-limited truth itself: the most that any method can reach in the plain figure."""
    case = np.load(shared_cases / "spacetime" / "sim2d_swirl.npz")
    truth = case["fluo_gt"][1, 2].astype(float)
    pixel = float(case["ps"] / case["zoomfact"])
    kc = float(2 * case["na"] / case["wavelength"] + 2 / case["line_spacing"][0])
    assert kc == pytest.approx(9.74, abs=0.01)
    best = psnr_plain(truth, truth, pixel, kc)
    widefield = case["raw_camera"][1].mean(axis=0)
    seen = psnr_plain(widefield, truth, pixel, kc)
    assert seen < 17.0 < best
    assert psnr_equalised(truth, truth, pixel, kc) == np.inf or psnr_equalised(truth, truth, pixel, kc) > 100
