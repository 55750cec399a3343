"""Transfer functions from a bead, and files of them."""

import numpy as np
import pytest

from nstm.acquisition import DataError
from nstm.illumination.beads import otf_from_bead
from nstm.optics.measured import read_otf, write_otf
from nstm.optics.volume import axial_frequency, volume_otf

from .sim_frames import lit_stack, vectors_at

K = vectors_at(2.35, [0.4])


@pytest.fixture(scope="module")
def bead():
    """One point off the origin of the grid under five phases, 20000 photons, background 100."""
    scene = np.zeros((32, 192, 192))
    scene[17, 97, 94] = 1.0
    clean = lit_stack(scene, K, 2 * np.pi * np.arange(5)[None] / 5 + 0.4, [[1.0, 0.8]], slice(None))[0]
    rng = np.random.default_rng(2)
    return rng.poisson(2e4 * np.maximum(clean, 0) / clean.max() + 100).astype(np.float32)


def test_a_bead_gives_the_transfer_functions_of_all_orders(bead):
    found = otf_from_bead(bead, pixel_um=0.08, z_step_um=0.125, beams=3, diameter_um=0.0)
    lens = {"na": 1.4, "index": 1.518, "wavelength_um": 0.515}
    theory = volume_otf(2, 32, 0.125, axial=axial_frequency(2.35, 1.518, 0.488), **lens)
    radius = np.arange(1, found.tables.shape[2]) * found.pitch
    for order, modulation in enumerate((1.0, 1.0, 0.8)):
        expected = modulation * theory(order, radius) * np.sinc(radius * 0.08 / np.sqrt(2)) ** 2
        measured = found.tables[order][:, 1:]
        assert np.linalg.norm(measured - expected) < 0.15 * np.linalg.norm(expected)


def test_a_file_gives_back_what_was_written(bead, tmp_path):
    found = otf_from_bead(bead, pixel_um=0.08, z_step_um=0.125, beams=3)
    write_otf(tmp_path / "otf.tif", found)
    read = read_otf(tmp_path / "otf.tif", pixel_um=1.0, z_step_um=1.0)
    np.testing.assert_allclose(read.tables, found.tables, atol=1e-6)
    assert (read.pitch, read.axial_pitch) == (found.pitch, found.axial_pitch)
    same = found.at(2, 32, 0.125, 5.0)
    np.testing.assert_allclose(same.tables, found.tables[..., : same.tables.shape[2]], atol=1e-6)


def test_published_files_agree(shared_data):
    """DeltaVision, TIFF and MRC; order 1 has its maximum at the axial frequency."""
    folder = shared_data / "sim" / "omx_3d"
    read = read_otf(folder / "otf.dv", pixel_um=0.08, z_step_um=0.125)
    assert read.tables.shape == (3, 65, 129)
    assert read.axial_pitch == pytest.approx(0.123, abs=0.001)
    same = read_otf(folder / "otf.tif", pixel_um=0.08, z_step_um=0.125)
    assert same.tables.shape == read.tables.shape
    assert np.argmax(np.abs(same.tables[1, :33, 2])) == 9
    flat = next((shared_data / "sim" / "microtubules_dv").glob("*488*OTF2d.mrc"))
    otf = read_otf(flat, pixel_um=0.0626, z_step_um=None).at(1, 1, None, 4.95)
    assert otf.tables.shape[:2] == (2, 1)
    with pytest.raises(DataError, match="single plane"):
        read_otf(flat, pixel_um=0.0626, z_step_um=None).at(1, 8, 0.125, 4.95)


def test_saturated_beads_and_no_beads_are_refused(bead):
    with pytest.raises(DataError, match="saturated"):
        otf_from_bead(np.minimum(bead, 5000), pixel_um=0.08, z_step_um=0.125, beams=3)
    with pytest.raises(DataError, match="bead"):
        otf_from_bead(bead[:, :, :20, :20], pixel_um=0.08, z_step_um=0.125, beams=3)
    with pytest.raises(DataError, match="phases"):
        otf_from_bead(bead[:3], pixel_um=0.08, z_step_um=0.125, beams=3)
