import pickle
import struct
from pathlib import Path

import mrc
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from nstm.acquisition import DataError
from nstm.io.files import open_recording
from nstm.io.mrc import MrcReader, read_mrc_array
from nstm.io.protocol import DTYPES, HEAD_BYTES
from tests.files.mrc import (
    EMISSION,
    EXCITATION,
    EXPOSURE,
    SEQUENCES,
    STAGE_X,
    TIME,
    example,
    section_numbers,
    write_dv,
    write_mrc,
)


def _open(path):
    return MrcReader().open(path, None)


def _planes(path):
    image = _open(path)
    return np.stack([image.read_plane(i) for i in range(image.header.planes)])


def _changed(path, place, code, *values):
    data = bytearray(path.read_bytes())
    struct.pack_into(code, data, place, *values)
    path.write_bytes(data)
    return path


@settings(deadline=None, max_examples=60)
@given(
    waves=st.integers(1, 7),
    times=st.integers(1, 4),
    depth=st.integers(1, 5),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32"]),
    order=st.sampled_from("<>"),
    sequence=st.sampled_from(sorted(SEQUENCES)),
)
def test_any_recording_is_read_as_it_was_written(tmp_path_factory, waves, times, depth, size, dtype, order, sequence):
    path = tmp_path_factory.getbasetemp() / "any.dv"
    lengths = {"C": waves, "T": times, "Z": depth}
    shape = tuple(lengths[a] for a in sequence)
    data = np.random.default_rng(0).integers(0, 200, (*shape, *size)).astype(dtype)
    flat = data.reshape(-1, *size)
    write_dv(path, flat, order=order, waves=range(500, 500 + waves), times=times, sequence=SEQUENCES[sequence])
    header, planes = _open(path).header, _planes(path)
    assert list(header.axes.items()) == [(a, lengths[a]) for a in sequence if lengths[a] > 1]
    assert (header.dtype, header.plane_shape, header.warnings) == (np.dtype(dtype), size, ())
    assert planes.dtype.isnative
    np.testing.assert_array_equal(planes, flat)
    np.testing.assert_array_equal(read_mrc_array(path), flat)
    with mrc.DVFile(path) as file:  # the library, as far as it goes, agrees
        assert file.axes == f"{sequence}YX"
        np.testing.assert_array_equal(file.asarray(squeeze=False), data)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_mrc_2014_is_read_in_both_byte_orders(order, dtype, tmp_path, stack):
    data = stack(5, dtype=dtype)
    path = write_mrc(tmp_path / "a.dat", data, order=order, angstrom=(650, 650, 2000), extended=bytes(160))
    header = _open(path).header
    assert (header.format, dict(header.axes), header.dtype, header.warnings) == ("MRC", {"Z": 5}, dtype, ())
    assert header.pixel_um == pytest.approx((0.065, 0.065))
    assert header.z_step_um == pytest.approx(0.2)
    np.testing.assert_array_equal(_planes(path), data)


def test_a_stack_of_images_has_no_sections_in_z(tmp_path, stack):
    header = _open(write_mrc(tmp_path / "a.mrc", stack(9), angstrom=(650, 650, 650), volume=False)).header
    assert (dict(header.axes), header.z_step_um) == ({"I": 9}, None)
    assert header.pixel_um == pytest.approx((0.065, 0.065))


@pytest.mark.parametrize("order", "<>")
def test_without_a_machine_stamp_the_axes_tell_the_byte_order(order, tmp_path, stack):
    path = write_mrc(tmp_path / "a.mrc", stack(2), order=order, stamp=bytes(4))
    np.testing.assert_array_equal(_planes(path), stack(2))


def test_bytes_of_mrc_are_signed_unless_imod_wrote_them(tmp_path):
    data = np.array([[[0, 1, 127, 128, 255]]], np.uint8)
    path = write_mrc(tmp_path / "a.mrc", data)
    assert _planes(path).tolist() == [[[0, 1, 127, -128, -1]]]
    _changed(path, 152, "<2i", 1146047817, 0)
    assert _planes(path).tolist() == data.tolist()
    _changed(path, 152, "<2i", 1146047817, 1)
    assert _planes(path).tolist() == [[[0, 1, 127, -128, -1]]]
    assert _planes(write_dv(tmp_path / "a.dv", data)).tolist() == data.tolist()


def test_half_precision_and_pairs_of_integers_are_widened(tmp_path):
    half = np.array([[[0.5, -2, 1024]]], np.float16)
    planes = _planes(write_mrc(tmp_path / "a.mrc", half, order=">", mode=12))
    assert (planes.dtype, planes.tolist()) == (np.float32, half.tolist())
    pairs = np.array([[[3, -4, 300, 7]]], np.int16)
    path = _changed(write_dv(tmp_path / "a.otf", pairs, order=">", mode=3), 0, ">i", 2)
    assert read_mrc_array(path).tolist() == [[[3 - 4j, 300 + 7j]]]


def test_content_tells_the_format_not_the_name(tmp_path, stack):
    reader = MrcReader()
    for order in "<>":
        for write in (write_dv, write_mrc):
            path = write(tmp_path / "raw.dat", stack(2), order=order)
            assert reader.recognises(path.read_bytes()[:HEAD_BYTES])
    tifffile.imwrite(tmp_path / "a.dv", stack(2))
    for head in (b"", b"MAP ", bytes(HEAD_BYTES), path.read_bytes()[:100], (tmp_path / "a.dv").read_bytes()[:512]):
        assert not reader.recognises(head)


def test_what_a_recording_says_of_itself(tmp_path):
    path = example(tmp_path)
    image = open_recording(path, readers=(MrcReader(),)).files[0]
    header = image.header
    assert (header.format, dict(header.axes), header.rows_upward) == ("DeltaVision", {"T": 2, "Z": 9}, True)
    assert (header.pixel_um, header.z_step_um) == ((0.08, 0.08), 0.125)
    np.testing.assert_allclose(np.diff(header.plane_start_s), 0.05, atol=1e-6)
    np.testing.assert_allclose(header.exposure_s, 0.01, rtol=1e-6)
    assert header.channels == ("525 nm",)
    assert header.channel_optics == ({"emission_wavelength_um": 0.525, "excitation_wavelength_um": 0.488},)
    assert header.metadata == {"title 1": "written for a test"}
    assert header.warnings == ()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).read_plane(17), image.read_plane(17))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_every_channel_has_its_own_wavelengths_and_growing_times(order, sequence, tmp_path, stack):
    lengths = {"C": 2, "T": 3, "Z": 4}
    index = dict(zip(sequence, np.indices([lengths[a] for a in sequence]).reshape(3, -1), strict=True))
    numbers = section_numbers(24)
    numbers[:, TIME] = 60 * index["T"] + 0.2 * index["Z"]  # both channels at once
    numbers[:, EXCITATION] = np.array([488, 561])[index["C"]]
    numbers[:, EMISSION] = 0
    path = write_dv(
        tmp_path / "a.dv",
        stack(24),
        order=order,
        waves=(525, 608),
        times=3,
        sequence=SEQUENCES[sequence],
        numbers=numbers,
    )
    header = _open(path).header
    np.testing.assert_allclose(header.plane_start_s, numbers[:, TIME], rtol=1e-6)
    assert header.channels == ("525 nm", "608 nm")
    assert [dict(o) for o in header.channel_optics] == [
        {"emission_wavelength_um": 0.525, "excitation_wavelength_um": 0.488},
        {"emission_wavelength_um": 0.608, "excitation_wavelength_um": 0.561},
    ]


def _with_numbers(tmp_path, stack, change, **more):
    numbers = section_numbers(6)
    change(numbers)
    return _open(write_dv(tmp_path / "a.dv", stack(6), numbers=numbers, **more)).header


def test_times_are_used_only_if_every_section_has_one(tmp_path, stack):
    def no_times(numbers):
        numbers[:, TIME] = 0

    def one_missing(numbers):
        numbers[4, TIME] = 0

    def not_a_number(numbers):
        numbers[4, TIME] = np.nan

    def all_alike(numbers):
        numbers[:, TIME] = 7

    header = _with_numbers(tmp_path, stack, no_times)
    assert (header.plane_start_s, header.exposure_s, header.warnings) == (None, None, ())
    for change in (one_missing, not_a_number, all_alike):
        header = _with_numbers(tmp_path, stack, change)
        assert (header.plane_start_s, header.exposure_s) == (None, None)
        assert "do not grow" in " ".join(header.warnings)


def test_exposures_are_used_only_if_stated_and_possible(tmp_path, stack):
    def one_missing(numbers):
        numbers[2, EXPOSURE] = 0

    def milliseconds(numbers):
        numbers[:, EXPOSURE] = 10

    header = _with_numbers(tmp_path, stack, one_missing)
    assert header.plane_start_s is not None
    assert (header.exposure_s, header.warnings) == (None, ())
    header = _with_numbers(tmp_path, stack, milliseconds)
    assert header.exposure_s is None
    assert "exposures of 10 s" in " ".join(header.warnings)


def test_wavelengths_that_cannot_be_are_left_out(tmp_path, stack):
    def changing(numbers):
        numbers[3, EXCITATION] = 561

    def laser_as_emission(numbers):
        numbers[:, EXCITATION] = 525

    assert _with_numbers(tmp_path, stack, changing).channel_optics == ({"emission_wavelength_um": 0.525},)
    header = _with_numbers(tmp_path, stack, laser_as_emission)
    assert (header.channels, header.channel_optics) == ((), ({},))
    assert "cannot give an emission" in " ".join(header.warnings)
    header = _with_numbers(tmp_path, stack, lambda numbers: None, waves=(-50,))  # transmitted light
    assert header.channel_optics == ({"emission_wavelength_um": 0.525, "excitation_wavelength_um": 0.488},)
    assert _open(write_dv(tmp_path / "b.dv", stack(2), waves=(-50, 0))).header.channel_optics == ({}, {})


def test_a_stage_that_moves_is_told(tmp_path, stack):
    def two_positions(numbers):
        numbers[3:, STAGE_X] += 60

    assert "stage moves by 60 um" in " ".join(_with_numbers(tmp_path, stack, two_positions).warnings)


def test_an_extended_header_without_the_numbers_is_not_read_as_such(tmp_path, stack):
    short = _changed(example(tmp_path), 128, "<2h", 8, 200)
    header = _open(short).header
    assert (header.plane_start_s, dict(header.channel_optics[0])) == (None, {"emission_wavelength_um": 0.525})
    assert "does not hold 8 + 200 numbers" in " ".join(header.warnings)
    np.testing.assert_array_equal(_planes(short), _planes(example(tmp_path)))
    few = write_dv(tmp_path / "few.dv", stack(3), integers=0, numbers=section_numbers(3))
    header = _open(_changed(few, 130, "<h", 2)).header  # records of 2 numbers: a time, nothing else
    assert header.exposure_s is None


def test_lengths_of_unclear_meaning_are_not_used(tmp_path, stack):
    header = _open(write_dv(tmp_path / "a.dv", stack(2), intervals=(24, 16, 1))).header
    assert (header.pixel_um, header.z_step_um) == (None, 0.125)
    assert "[24, 16, 1] intervals" in " ".join(header.warnings)
    for length in (0, np.nan, np.inf, -0.08, 1e30):
        header = _open(write_dv(tmp_path / "a.dv", stack(2), pixel_um=length, z_step_um=length)).header
        assert (header.pixel_um, header.z_step_um) == (None, None)


def test_a_count_of_channels_that_does_not_fit_their_names_is_told(tmp_path, stack):
    assert "counts 1 wavelengths but names 2" in " ".join(
        _open(write_dv(tmp_path / "a.dv", stack(6), waves=(525, 608), count_waves=1)).header.warnings
    )


def test_counts_left_at_zero_mean_one(tmp_path, stack):
    path = write_dv(tmp_path / "a.dv", stack(6), waves=(), times=0)
    header = _open(path).header
    assert (dict(header.axes), header.channels, header.warnings) == ({"Z": 6}, (), ())


def test_a_cut_file_is_told_with_its_counts(tmp_path):
    path = example(tmp_path)
    whole = path.read_bytes()
    for length in [*range(600, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"example\.dv: (truncated: 18 sections of 16 x 24|no DeltaVision)"):
            _open(path)
    path.write_bytes(whole[: -768 - 1])
    with pytest.raises(DataError, match=rf"need {len(whole)} bytes, the file has {len(whole) - 769} \(16 whole"):
        _open(path)


def test_a_file_that_is_cut_after_it_was_opened_gives_no_zeros(tmp_path):
    path = example(tmp_path)
    image = _open(path)
    path.write_bytes(path.read_bytes()[:-10])
    image.read_plane(16)
    with pytest.raises(DataError, match="section 17 ends after 758 of 768 bytes"):
        image.read_plane(17)
    with pytest.raises(IndexError):
        image.read_plane(18)


def test_bytes_after_the_last_section_are_told(tmp_path):
    path = example(tmp_path)
    planes = _planes(path)
    path.write_bytes(path.read_bytes() + bytes(500))
    assert "500 bytes follow the 18 sections" in " ".join(_open(path).header.warnings)
    np.testing.assert_array_equal(_planes(path), planes)


@pytest.mark.parametrize(
    ("place", "code", "value", "message"),
    [
        (0, "<i", -24, "sections of 16 x -24 pixels"),
        (4, "<i", 0, "sections of 0 x 24 pixels"),
        (8, "<i", -18, "tells of -18 sections"),
        (0, "<i", 2**31 - 1, "the header is damaged"),
        (8, "<i", 2**31 - 1, "the header is damaged"),
        (8, "<i", 2_000_000, "truncated: 2000000 sections"),
        (12, "<i", 9, "mode 9, allowed 0: uint8"),
        (12, "<i", -1, "mode -1"),
        (12, "<i", 101, "mode 101"),
        (64, "<3i", (3, 1, 2), r"axes \[3, 1, 2\]"),
        (92, "<i", -1024, "extended header of -1024 bytes"),
        (92, "<i", 2**31 - 1, "truncated"),
        (180, "<h", -2, "1 wavelengths x -2 times"),
        (180, "<h", 5, "18 sections cannot be 1 wavelengths x 5 times"),
        (182, "<h", 4, "given as 4; known are 0"),
        (196, "<h", -1, "-1 wavelengths"),
        (196, "<h", 32767, "32767 wavelengths"),
        (96, ">h", -16224, "the header is damaged"),  # the byte order swapped in the mark alone
    ],
)
def test_a_damaged_field_is_named(place, code, value, message, tmp_path):
    path = _changed(example(tmp_path), place, code, *(value if isinstance(value, tuple) else (value,)))
    with pytest.raises(DataError, match=message) as error:
        _open(path)
    assert "example.dv" in str(error.value)


def test_an_unknown_order_of_a_single_axis_does_no_harm(tmp_path, stack):
    assert dict(_open(write_dv(tmp_path / "a.dv", stack(9), sequence=4)).header.axes) == {"Z": 9}


def test_damage_anywhere_in_the_headers_is_told_or_harmless(tmp_path):
    path = example(tmp_path)
    whole, planes = path.read_bytes(), _planes(path)
    rng, refused, told = np.random.default_rng(2), 0, 0
    for _ in range(400):
        data = bytearray(whole)
        for place in [*rng.integers(0, 224, 2), *rng.integers(1024, len(whole) - planes.nbytes, 2)]:
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            header, found = _open(path).header, _planes(path)
        except DataError as error:
            refused += str(path) in str(error)
            continue
        assert header.dtype.name in DTYPES
        told += bool(header.warnings)
        if not header.warnings:
            np.testing.assert_array_equal(found, planes)
    assert refused > 50
    assert told > 50


def test_no_memory_is_asked_for_what_the_file_cannot_hold(tmp_path):
    path = _changed(example(tmp_path), 0, "<3i", 16384, 16384, 4_000_000)
    with pytest.raises(DataError, match="truncated"):
        read_mrc_array(path)


def test_complex_numbers_are_no_raw_data(tmp_path):
    data = np.array([[[1 + 2j, -3j], [0, 0.5]]], np.complex64)
    path = write_dv(tmp_path / "a.otf", data, order=">")
    np.testing.assert_array_equal(read_mrc_array(path), data)
    with pytest.raises(DataError, match=r"a\.otf: complex numbers \(mode 4\).*optical transfer function"):
        _open(path)


def test_other_files_and_positions_are_refused(tmp_path):
    (tmp_path / "a.dv").write_bytes(b"no header" * 200)
    with pytest.raises(DataError, match="no DeltaVision or MRC header"):
        read_mrc_array(tmp_path / "a.dv")
    MrcReader().open(example(tmp_path), "0")
    with pytest.raises(DataError, match="position '1' asked for"):
        MrcReader().open(example(tmp_path), "1")


REAL = {
    "vendor/dv/toxo.dv": ({"C": 2, "Z": 17}, (128, 128), "uint16", 0.13262, 0.3, ("525 nm", "632 nm")),
    "sim/omx_3d/raw.dv": ({"Z": 135}, (64, 64), "float32", 0.08, 0.125, ("528 nm",)),
    "sim/microtubules_dv/MT.mrc": ({"Z": 9}, (256, 256), "uint16", 0.0626, 0.16, ("525 nm",)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings(name, shared_data):
    axes, shape, dtype, pixel_um, z_step_um, channels = REAL[name]
    path = shared_data / name
    header = open_recording(path, readers=(MrcReader(),)).headers[0]
    assert (dict(header.axes), header.plane_shape, header.dtype) == (axes, shape, dtype)
    assert (header.pixel_um, header.z_step_um) == ((pixel_um, pixel_um), z_step_um)
    assert (header.channels, header.warnings, header.plane_start_s) == (channels, (), None)
    assert [f"{1000 * o['emission_wavelength_um']:.0f} nm" for o in header.channel_optics] == list(channels)
    np.testing.assert_array_equal(_planes(path), mrc.imread(path).reshape(-1, *shape))


def test_the_rows_of_dv_run_the_other_way_than_those_of_tif(shared_data):
    folder = shared_data / "sim/omx_3d"
    assert _open(folder / "raw.dv").header.rows_upward
    planes, tif = _planes(folder / "raw.dv"), tifffile.imread(folder / "raw.tif")
    np.testing.assert_array_equal(planes[:, ::-1], tif)
    assert not np.array_equal(planes, tif)


def test_a_measured_otf_of_three_orders(shared_data):
    """``otf.tif`` is another measurement of the same kind: real and imaginary parts in turn along kz."""
    folder = shared_data / "sim/omx_3d"
    orders, columns = read_mrc_array(folder / "otf.dv"), tifffile.imread(folder / "otf.tif")
    other = columns[..., ::2] + 1j * columns[..., 1::2]
    assert (orders.shape, orders.dtype) == (other.shape, np.complex64) == ((3, 129, 65), np.complex64)
    np.testing.assert_allclose(abs(orders[0, 0, 0]), 1, rtol=1e-6)

    def alike(a, b):
        return abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b)

    assert alike(orders[0], other[0]) > 0.98
    assert alike(orders[0, ::-1], other[0]) < 0.1  # the rows of an OTF are not turned round
    with pytest.raises(DataError, match="optical transfer function"):
        _open(folder / "otf.dv")


def test_measured_radial_otfs(shared_data):
    paths = sorted((shared_data / "sim/microtubules_dv").glob("*_OTF2d.mrc"))
    assert len(paths) == 3
    for path in paths:
        assert MrcReader().recognises(path.read_bytes()[:HEAD_BYTES])
        otf = read_mrc_array(Path(path))
        assert (otf.shape, otf.dtype) == ((1, 1, 257), np.complex64)
        assert otf[0, 0, 0] == 1
        assert np.all(np.abs(otf) <= 1)
        assert np.abs(otf[0, 0, -20:]).max() < 0.01  # beyond the band there is nothing
        with pytest.raises(DataError, match="complex"):
            _open(path)
