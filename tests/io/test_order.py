import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from nstm.acquisition import DataError
from nstm.io import open_acquisitions
from nstm.io.order import PlaneOrder, contradictions, parse_order, plane_order, run_of
from tests.io.conftest import FakeSystem

AXES = {"angle": 3, "phase": 5}


@st.composite
def _layouts(draw):
    names = draw(
        st.lists(st.sampled_from(["angle", "phase", "illumination", "block"]), min_size=1, max_size=3, unique=True)
    )
    frame_axes = {name: draw(st.integers(1, 4)) for name in names}
    order = draw(st.permutations(["t", *names, "z"]))
    return frame_axes, draw(st.integers(1, 3)), draw(st.integers(1, 3)), tuple(order)


@given(_layouts())
def test_every_order_and_shape_flattens_back_to_itself(layout):
    frame_axes, planes, acquisitions, order = layout
    lengths = {"t": acquisitions, **frame_axes, "z": planes}
    labelled = np.arange(np.prod(list(lengths.values()))).reshape(tuple(lengths.values()))
    in_file = np.transpose(labelled, [list(lengths).index(name) for name in order]).ravel()

    names = parse_order(" ".join(order), frame_axes, planes)
    found = plane_order(in_file.size, names, frame_axes, planes)

    assert found.dropped == 0
    assert found.axes["t"] == acquisitions
    np.testing.assert_array_equal(in_file[found.table(frame_axes)], labelled)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(_layouts(), st.tuples(st.integers(1, 7), st.integers(1, 7)), st.sampled_from([None, "zlib"]), st.booleans())
def test_planes_written_in_any_order_are_opened_as_the_frames_that_they_are(layout, size, compression, one_by_one):
    frame_axes, planes, acquisitions, order = layout
    lengths = {"t": acquisitions, **frame_axes, "z": planes}
    count = int(np.prod(list(lengths.values())))
    rng = np.random.default_rng(count)
    frames = rng.integers(0, 60_000, (*lengths.values(), *size)).astype(np.uint16)
    in_file = np.moveaxis(frames, [list(lengths).index(name) for name in order], range(len(order)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "raw.tif")
        with tifffile.TiffWriter(path) as writer:
            options = {"photometric": "minisblack", "compression": compression, "metadata": None}
            for pages in in_file.reshape(-1, 1, *size) if one_by_one else [in_file.reshape(-1, *size)]:
                writer.write(pages, contiguous=False, **options)
        system = FakeSystem(frame_axes, " ".join(order), planes=planes, z_step_um=0.2)
        found = open_acquisitions(path, system)
        assert found["frames"].dims == ("t", *frame_axes, "z", "y", "x")
        np.testing.assert_array_equal(found["frames"].values, frames)


@given(_layouts())
def test_axes_of_length_one_and_t_may_be_left_out(layout):
    frame_axes, planes, acquisitions, order = layout
    lengths = {**frame_axes, "z": planes}
    short = [name for name in order if name != "t" and lengths[name] > 1]
    count = acquisitions * int(np.prod(list(lengths.values())))
    full = ["t", *short]
    found = plane_order(count, parse_order(" ".join(short), frame_axes, planes), frame_axes, planes)
    same = plane_order(count, parse_order(" ".join(full), frame_axes, planes), frame_axes, planes)
    np.testing.assert_array_equal(found.table(frame_axes), same.table(frame_axes))
    assert found.table(frame_axes).shape == (acquisitions, *frame_axes.values(), planes)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("t angle", ["missing: phase", "'t angle phase'"]),
        ("t angle phase channel", ["unknown: 'channel'"]),
        ("t angle phase phase", ["more than once: phase"]),
        ("t, angle, phase", ["unknown: 't,', 'angle,'"]),
        ("T ANGLE PHASE", ["unknown: 'T'"]),
        ("", ["missing: angle, phase"]),
        ("t angle phase z\n<script>", ["unknown: '<script>'"]),
    ],
)
def test_a_wrong_order_is_refused_with_what_is_allowed(order, words):
    with pytest.raises(DataError) as refused:
        parse_order(order, AXES, 1)
    for word in [*words, "t, angle, phase, z"]:
        assert word in str(refused.value)


def test_z_is_needed_where_there_are_planes():
    with pytest.raises(DataError, match="missing: z"):
        parse_order("t angle phase", AXES, 7)


def test_an_incomplete_last_acquisition_is_cut_off_at_the_end_only():
    found = plane_order(50, ("t", "angle", "phase"), AXES, 1)
    assert (found.axes["t"], found.dropped) == (3, 5)
    with pytest.raises(DataError, match="no whole number of acquisitions"):
        plane_order(50, ("angle", "t", "phase"), AXES, 1)


def test_fewer_planes_than_one_acquisition_are_refused_with_the_numbers():
    with pytest.raises(DataError, match=r"14 planes in the file, but one acquisition has 15 \(3 angle x 5 phase\)"):
        plane_order(14, ("t", "angle", "phase"), AXES, 1)


ORDER = PlaneOrder({"t": 4, "angle": 3, "phase": 5}, 0)


@pytest.mark.parametrize(
    ("labels", "run"),
    [
        ({"Z": 4, "C": 15}, ["angle", "phase"]),
        ({"Z": 12, "C": 5}, ["phase"]),
        ({"T": 4, "C": 3, "Z": 5}, ["angle"]),
        ({"C": 4, "Z": 15}, ["t"]),
        ({"C": 60}, ["t", "angle", "phase"]),
        ({"Z": 30, "C": 2}, None),
        ({"C": 2, "Z": 30}, None),
        ({"Z": 20, "C": 3}, None),  # three, but where the five phases are
    ],
)
def test_an_axis_is_recognised_as_a_run_of_frames_only_where_it_covers_them_exactly(labels, run):
    assert run_of("C", labels, ORDER) == run


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ({"T": 4, "C": 15}, 0),
        ({"T": 60}, 0),
        ({"Z": 60}, 0),
        ({"file": 4, "Z": 15}, 0),
        ({"Z": 4, "C": 15}, 1),
        ({"T": 15, "Z": 4}, 2),
        ({"T": 2, "C": 30}, 1),
    ],
)
def test_labels_that_say_otherwise_are_told(labels, count):
    assert len(contradictions(labels, ORDER, {})) == count
