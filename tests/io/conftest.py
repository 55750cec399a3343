"""A stand-in for an imaging system, and a check that no reader leaves a file open."""

import gc
import os
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from nstm.acquisition import computed_times

UNSET = {"flips": None, "montage": None, "acquisition_interval_s": None, "binning": 1}


class FakeSystem:
    """The part of an imaging system that the readers look at."""

    def __init__(self, axes, order, planes=1, pixel_um=0.065, z_step_um=None, exposure_s=None, shifts=None):
        self.frame_axes = dict(axes)
        self.block_axis = next(iter(axes))
        frames = SimpleNamespace(order=order, planes=planes, exposure_s=exposure_s, **UNSET)
        if shifts is not None:
            frames.orientation_from_acquisition = shifts
        self.settings = SimpleNamespace(frames=frames, optics=SimpleNamespace(pixel_um=pixel_um, z_step_um=z_step_um))

    axis_labels: ClassVar = {"R": "angle", "H": "phase"}
    needed_optics = ()
    usual_order = None
    usual_times = None
    simultaneous_axes = ()

    def times(self, acquisitions, order):
        axes = {**self.frame_axes, "z": self.settings.frames.planes}
        exposure = self.settings.frames.exposure_s
        times = computed_times(
            acquisitions, axes, exposure_s=exposure or 1.0, delays_s={}, interval_s=None, order=list(axes)
        )
        return times, "computed" if exposure else "assumed"


@pytest.fixture
def sim():
    """Makes a SIM-like system: 3 angles x 3 phases unless told otherwise."""

    def make(order="t angle phase", angles=3, phases=3, **more):
        return FakeSystem({"angle": angles, "phase": phases}, order, **more)

    return make


@pytest.fixture
def stack():
    """Makes planes ``(*shape, y, x)`` that all differ."""

    def make(*shape, size=(16, 24), dtype=np.uint16, seed=0):
        return np.random.default_rng(seed).integers(0, 4000, (*shape, *size)).astype(dtype)

    return make


def _open_files(folder):
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith(str(folder)):
            found.append(target)
    return found


@pytest.fixture(autouse=True)
def _no_file_stays_open(tmp_path):
    """Fails a test after which a file below its temporary folder is still open."""
    yield
    if not os.path.isdir("/proc/self/fd"):
        return
    if _open_files(tmp_path):
        gc.collect()
    assert _open_files(tmp_path) == []
