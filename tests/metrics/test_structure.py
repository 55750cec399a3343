"""MS-SSIM, MSE, and LPIPS with weights that say nothing of images."""

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from nstm.acquisition import DataError
from nstm.metrics import ms_ssim, mse, psnr
from nstm.metrics.image import crop
from nstm.metrics.lpips import _shapes, load_weights, lpips

RNG = np.random.default_rng(0)
TRUTH = gaussian_filter(RNG.random((256, 256)), 2) ** 2
NOISY = TRUTH + 0.2 * TRUTH.std() * RNG.normal(size=TRUTH.shape)


def test_ms_ssim_of_the_same_and_of_others():
    assert ms_ssim(TRUTH, TRUTH) == pytest.approx(1)
    assert ms_ssim(3 * TRUTH + 5, TRUTH) == pytest.approx(1)
    blurred = gaussian_filter(TRUTH, 3)
    assert 0 < ms_ssim(blurred, TRUTH) < ms_ssim(NOISY, TRUTH) < 1
    assert ms_ssim(-TRUTH[::-1] * 0 + RNG.random(TRUTH.shape), TRUTH) < 0.3


def test_one_scale_is_ssim():
    cut, image = crop(TRUTH), crop(NOISY)
    centred = image - image.mean()
    matched = centred * np.vdot(centred, cut - cut.mean()) / np.vdot(centred, centred) + cut.mean()
    whole = structural_similarity(
        matched, cut, data_range=np.ptp(cut), gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ms_ssim(NOISY, TRUTH, scales=1) == pytest.approx(whole, abs=1e-6)


def test_too_small_for_five_scales():
    assert np.isnan(ms_ssim(TRUTH[:128, :128], TRUTH[:128, :128]))
    assert ms_ssim(TRUTH[:128, :128], TRUTH[:128, :128], scales=4) == pytest.approx(1)
    assert np.isnan(ms_ssim(TRUTH * np.nan, TRUTH))
    with pytest.raises(ValueError, match="1 to 5"):
        ms_ssim(TRUTH, TRUTH, scales=6)


def test_mse_belongs_to_psnr():
    assert psnr(NOISY, TRUTH) == pytest.approx(-10 * np.log10(mse(NOISY, TRUTH)))
    assert mse(2 * TRUTH + 1, TRUTH) == pytest.approx(0, abs=1e-20)
    cut = crop(TRUTH)
    noise = 0.01 * np.ptp(cut)
    assert mse(TRUTH + noise * RNG.normal(size=TRUTH.shape), TRUTH) == pytest.approx(1e-4, rel=0.1)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.random(shape, np.float32) if name.startswith("lin") else (rng.random(shape, np.float32) - 0.5) * 0.1
        for name, shape in _shapes().items()
    }
    path = tmp_path_factory.mktemp("lpips") / "vgg.safetensors"
    save_file({name: a.astype(np.float16) for name, a in arrays.items()}, path)
    return path


def test_lpips_is_a_distance(weights_file):
    weights = load_weights(weights_file)
    a = TRUTH[:32, :32] / TRUTH.max()
    assert lpips(a, a, weights) < 1e-12
    near, far = np.clip(a + 0.01, 0, 1), a[::-1]
    assert 0 < lpips(near, a, weights) < lpips(far, a, weights)
    assert lpips(far, a, weights) == pytest.approx(lpips(a, far, weights), rel=1e-5)
    with pytest.raises(DataError, match="0 to 1"):
        lpips(a * 300, a, weights)
    with pytest.raises(DataError, match="one shape"):
        lpips(a[:20], a, weights)


def test_lpips_is_never_faked(tmp_path):
    with pytest.raises(DataError, match=r"no such file.*VGG16"):
        load_weights(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(DataError, match="not a safetensors file"):
        load_weights(tmp_path / "text")
    save_file({"features.0.weight": np.zeros((64, 1, 3, 3), np.float32)}, tmp_path / "other")
    with pytest.raises(DataError, match=r"features.0.weight \(64, 3, 3, 3\), found \(64, 1, 3, 3\)"):
        load_weights(tmp_path / "other")
