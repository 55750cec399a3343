"""Frames that get darker while they are recorded: bleaching, or a lamp that fades by a quarter."""

import numpy as np

import nstm
from nstm.metrics import psnr_equalised
from nstm.settings import Reconstruction, override
from nstm.systems.dpc import Dpc
from tests.spacetime.test_engines import TIMES, moving
from tests.spacetime.test_reconstruct import SHORT, blobs, inner, recorded
from tests.systems.test_dpc import PIXEL, settings

SIM = override(SHORT, {"starts": 1})
DPC = override(override(Reconstruction(), dict(Dpc.fit_defaults)), {"steps": 200, "padding_px": 0, "starts": 1})


def decay(frames):
    """Light left at each of so many frames."""
    return 0.75 ** np.linspace(0, 1, frames)


def quality(images, truth, fit, cutoff):
    """Mean equalised PSNR of ``(t, y, x)``, dB."""
    pairs = zip(images, np.asarray(truth, float), strict=True)
    return float(np.mean([psnr_equalised(image, there, fit.output_pixel_um, cutoff) for image, there in pairs]))


def of_sim(light, rate):
    """Quality of a fit of nine frames in this light, its gains, and those that it began with."""
    system, frames, times, known = recorded((0, 1))
    counts = 100 + (frames - 100) * light.reshape(3, 3, 1, 1, 1).astype(np.float32)
    means = (counts - 100).mean(axis=(2, 3, 4))  # what an estimate begins with; the sample and the fringes change it
    begun = means / means.mean()
    chosen = override(SIM, {"illumination_rate": rate})
    fit = nstm.reconstruct(system, counts, times, chosen, calibration={**known, "intensity": begun.tolist()})
    gains = begun.ravel() * (1 + fit.parameters["illumination"]["intensity"])
    at, truth = np.sort(times.ravel())[[0, 4, 8]], [inner(blobs((0, i))) for i in (0, 4, 8)]
    return quality(inner(fit.scene(at)[:, 0, 0]), truth, fit, 9.0), gains / gains.mean(), begun.ravel()


def test_sim_frames_that_bleach_give_what_steady_ones_give():
    steady, _, _ = of_sim(np.ones(9), 3e-2)
    bleached, gains, begun = of_sim(decay(9), 3e-2)
    without, _, _ = of_sim(decay(9), 0.0)
    relative = decay(9) / decay(9).mean()
    assert np.abs(gains / relative - 1).max() < 0.7 * np.abs(begun / relative - 1).max()
    assert bleached > steady - 1
    assert without < bleached - 2


def of_dpc(light, calibration=None):
    """Quality of a fit of four images in this light, its residual in units of the noise, and its calibration."""
    _, images, scenes = moving(1)
    system = Dpc(settings(model="phase", background={"method": "given", "counts": [1000]}))
    counts = (1000 * (1 + images) * light[:, None, None, None]).astype(np.float32)
    calibration = calibration or system.calibrate(counts, PIXEL)
    fit = nstm.reconstruct(system, counts, TIMES, DPC, pixel_um=PIXEL, calibration=calibration)
    cutoff = system.cutoff(calibration)
    left = np.mean(fit.residual**2) / np.mean(fit.noise_variance)
    return quality(fit.scene(TIMES.ravel())[:, 0, 0], scenes, fit, cutoff), left, calibration


def test_dpc_frames_that_get_darker_give_what_steady_ones_give():
    steady, usual, known = of_dpc(np.ones(4))
    assert known["intensity"] == [1.0] * 4
    darker, left, known = of_dpc(decay(4))
    np.testing.assert_allclose(known["intensity"], decay(4), atol=1e-3)
    assert darker > steady - 3  # of 50 dB: without noise the last steps count, and these differ between processors
    assert left < 1.2 * usual
    without, unexplained, _ = of_dpc(decay(4), {"status": "pass", "reasons": []})
    assert without < darker
    assert unexplained > 10 * usual
