"""``nstm otf``: from the recording of a bead to a file for ``optics.otf``."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import yaml
from typer.testing import CliRunner

from nstm.cli import app
from nstm.optics.measured import read_otf
from nstm.optics.volume import volume_otf

LENS = {"na": 1.4, "index": 1.518, "wavelength_um": 0.515}
PIXEL, STEP = 0.08, 0.125


def bead_stack() -> np.ndarray:
    """A point in the middle, two beams whose pattern is 1 there at every phase step in turn; (phase, z, y, x)."""
    n, planes = 96, 16
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(n, PIXEL), np.fft.fftfreq(n, PIXEL), indexing="ij"))
    spread = np.fft.fftshift(np.fft.ifftn(volume_otf(1, planes, STEP, **LENS)(0, f)).real)
    phases = 2 * np.pi * np.arange(3) / 3
    light = 2e4 * spread / spread.max()
    clean = np.stack([light * (1 + 0.9 * np.cos(p)) for p in phases])
    return np.random.default_rng(4).poisson(np.maximum(clean, 0) + 100).astype(np.uint16)


@pytest.fixture
def experiment(tmp_path):
    optics = {"na": 1.4, "index": 1.518, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488}
    system = {
        "kind": "sim",
        "optics": {**optics, "pixel_um": PIXEL, "z_step_um": STEP},
        "camera": {"offset": 0},
        "illumination": {"angles": 1, "phases": 3, "beams": 2},
        "frames": {"order": "phase z", "planes": 16},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"samples": "samples.tsv", "systems": {"scope": system}}))
    return tmp_path


def test_a_bead_becomes_a_file_for_the_config(experiment):
    tifffile.imwrite(experiment / "bead.tif", bead_stack().reshape(-1, 96, 96), photometric="minisblack")
    out = experiment / "otf" / "otf.tif"
    ran = CliRunner().invoke(
        app, ["otf", str(experiment / "bead.tif"), str(out), "-c", str(experiment / "config.yaml")]
    )
    assert ran.exit_code == 0, ran.output
    found = read_otf(out, pixel_um=PIXEL, z_step_um=STEP)
    radius = np.arange(1, found.tables.shape[2]) * found.pitch
    theory = volume_otf(1, 16, STEP, **LENS)(0, radius)
    measured = np.abs(found.tables[0][:, 1:])
    assert np.linalg.norm(measured - np.abs(theory)) < 0.2 * np.linalg.norm(theory)  # bead of 0.1 um, noise, azimuth


def test_no_bead_leaves_no_file(experiment):
    flat = np.random.default_rng(0).poisson(100, (48, 96, 96)).astype(np.uint16)
    tifffile.imwrite(experiment / "flat.tif", flat, photometric="minisblack")
    out = experiment / "otf.tif"
    ran = CliRunner().invoke(
        app, ["otf", str(experiment / "flat.tif"), str(out), "-c", str(experiment / "config.yaml")]
    )
    assert ran.exit_code == 2
    assert "bead" in ran.output
    assert not out.exists()
