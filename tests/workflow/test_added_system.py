"""A system in one file that a config names by its path, as the documents have it, through every rule."""

import json
import re

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, shift

from nstm.acquisition import Channel
from nstm.io.store import open_raw, open_timelapse, write_timelapse
from tests.experiments import Workdir

PIXEL, SIDE, STEP_PX = 0.1, 64, np.array([0.6, -0.9])
TIMES = 0.02 + 0.04 * np.arange(4)  # of the cycles of two frames, s


def blocks_of(document, language):
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), re.DOTALL)


def sample():
    """Two colours at rest on a field with room around it."""
    rng = np.random.default_rng(2)
    image = gaussian_filter(rng.normal(size=(2, SIDE + 32, SIDE + 32)), (0, 2, 2))
    return 400 * np.maximum(image / image.std() - 0.5, 0)


def moved(images, steps):
    return np.stack([shift(image, steps * STEP_PX, order=3, mode="nearest") for image in images])[:, 16:-16, 16:-16]


def recording(system):
    """Frames ``(t, cycle, colour, y, x)`` of a drifting sample, and the truth at the time of each cycle."""
    rest, rng = sample(), np.random.default_rng(3)
    transfer = system.transfer((SIDE + 32, SIDE + 32), PIXEL)
    blurred = np.fft.irfft2(transfer * np.fft.rfft2(rest), s=rest.shape[1:])
    frames = np.stack([moved(blurred[i // 2 % 2, i % 2][None], i)[0] for i in range(8)])
    counts = rng.poisson(np.maximum(frames, 0)) + 100 + rng.normal(scale=1.5, size=frames.shape)
    truth = np.stack([moved(rest, i + 0.5) for i in range(0, 8, 2)])
    return np.rint(np.maximum(counts, 0)).astype(np.uint16), np.maximum(truth, 0).astype(np.float32)


@pytest.mark.end_to_end
def test_through_every_rule(root, tmp_path):
    from nstm.pipeline.experiment import system_class

    document = root / "docs" / "add-a-system.md"
    (code,), (config,) = blocks_of(document, "python"), blocks_of(document, "yaml")
    assert len(code.splitlines()) < 60
    row = {"sample": "beads", "path": "../raw.tif", "system": "mine", "truth": "../truth"}
    workdir = Workdir(tmp_path, config, [row])
    file = tmp_path / "config" / "two_colours.py"
    file.write_text(code)
    kind = system_class(str(file), tmp_path)
    optics = {"na": 1.2, "emission_wavelength_um": 0.515}
    system = kind(kind.Settings.model_validate({"optics": optics}))
    frames, truth = recording(system)
    tifffile.imwrite(tmp_path / "raw.tif", frames, photometric="minisblack")
    write_timelapse(
        tmp_path / "truth", truth[:, :, None], times_s=TIMES, pixel_um=PIXEL, z_step_um=None, label="truth",
        channels=[Channel("green"), Channel("red", main=True)], effective_transfer="none", flags=[""] * 4,
        provenance={},
    )  # fmt: skip
    workdir.snakemake()
    for name in ("inspect", "quality", "illumination"):
        found = json.loads(workdir.result(f"beads/{name}.json").read_text())
        assert found["status"] == "pass", (name, found["reasons"])
    trust = json.loads(workdir.result("beads/trust.json").read_text())
    assert "moves_in_exposure" in {r["code"] for r in trust["reasons"]}, "a pixel in each exposure, as it is simulated"
    assert trust["status"] == "warn"
    assert open_raw(workdir.result("beads/raw.ome.zarr"))["frames"].dims == ("t", "cycle", "colour", "z", "y", "x")
    for name in ("nstm", "static", "conventional", "widefield"):
        store = open_timelapse(workdir.result(f"beads/timelapse/{name}.ome.zarr"))
        assert store.shape == (4, 2, 1, SIDE, SIDE)
    motion = open_timelapse(workdir.result("beads/timelapse/motion.ome.zarr")).values[[1, 3], :, 0]
    step = np.nanmedian(motion, axis=(0, 2, 3)) / PIXEL  # from the mean time of one cycle to that of the next
    np.testing.assert_allclose(step, 2 * STEP_PX, atol=0.1)
    methods = json.loads(workdir.result("beads/metrics.json").read_text())["methods"]
    psnr = {name: block["mean"]["psnr_equalised"] for name, block in methods.items()}
    assert psnr["nstm"] > max(psnr["static"], psnr["conventional"], psnr["widefield"]) + 3, psnr
    assert methods["nstm"]["channels"]["green"]["mean"]["psnr_equalised"] > 25
    assert workdir.result("beads/movie.mp4").exists()
    assert "beads" in workdir.result("report.html").read_text()
