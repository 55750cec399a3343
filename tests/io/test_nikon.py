"""ND2 through the library `nd2`, on files made by `tests.files.nd2`: none from a microscope was to be had."""

import pickle
import struct
import time
import tracemalloc

import nd2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstm.acquisition import DataError
from nstm.io.files import open_recording
from nstm.io.nikon import NikonReader
from tests.files.nd2 import (
    CUSTOM,
    POSITION,
    TIME,
    Z_STACK,
    Channel,
    Loop,
    chunks,
    compressed_variant,
    example,
    file_bytes,
    lite_variant,
    write,
    xml_variant,
)

TIMES_AND_SECTIONS = (Loop(TIME, 2), Loop(Z_STACK, 3, step_um=0.2))
PICTURE, TEXTS = b"ImageMetadataSeqLV|0!", b"ImageTextInfoLV!"


def _open(path, position=None):
    image = NikonReader().open(path, position)
    return image.header, np.stack([image.read_plane(i) for i in range(image.header.planes)])


@pytest.fixture
def pixels(stack):
    """Makes frames ``(frames, channels, y, x)`` of a camera: never zero."""
    return lambda frames=6, channels=2, **more: stack(frames, channels, **more) + 1


def test_the_header_of_a_recording(tmp_path):
    path = example(tmp_path)
    header = NikonReader().open(path, None).header
    assert header.format == "Nikon ND2"
    assert dict(header.axes) == {"T": 2, "Z": 3, "C": 2}
    assert (header.plane_shape, header.dtype, header.file_bytes) == ((16, 24), np.uint16, path.stat().st_size)
    assert header.pixel_um == (0.065, 0.065)
    assert header.z_step_um == pytest.approx(0.2)
    assert header.channels == ("GFP", "RFP")
    assert header.optics == {"na": 1.49, "index": 1.515}
    assert list(header.channel_optics) == [
        {"emission_wavelength_um": 0.51, "excitation_wavelength_um": 0.488},
        {"emission_wavelength_um": 0.6, "excitation_wavelength_um": 0.561},
    ]
    np.testing.assert_allclose(header.plane_start_s, np.repeat([0.0, 0.02, 0.04, 0.1, 0.12, 0.14], 2))
    np.testing.assert_allclose(header.exposure_s, [0.005, 0.01] * 6)
    assert header.metadata["software"] == "NIS-Elements AR 5.21"
    assert header.metadata["objective"] == "Apo TIRF 100x Oil"
    assert header.metadata["modality"] == "fluorescence, camera, SIM"
    assert header.metadata["z_order"] == "bottom to top"
    assert header.warnings == ()
    assert not header.rows_upward


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "options",
    [{}, {"compressed": True}, {"row_padding": 2}, {"row_padding": 2, "compressed": True}, {"xml": True}],
    ids=str,
)
def test_every_way_of_writing_is_read_as_the_library_reads_it(options, dtype, tmp_path, pixels):
    data = (pixels() % 200 + 1).astype(dtype)
    path = write(tmp_path / "raw.dat", data, TIMES_AND_SECTIONS, **options)  # the name says nothing
    header, planes = _open(path)
    with nd2.ND2File(path) as file:
        oracle = file.asarray()
        assert dict(file.sizes) == {**header.axes, "Y": 16, "X": 24}
    assert planes.dtype == header.dtype == dtype
    assert planes.dtype.isnative
    np.testing.assert_array_equal(planes, oracle.reshape(planes.shape))
    np.testing.assert_array_equal(planes, data.reshape(planes.shape))
    assert (header.channels, header.pixel_um, header.warnings) == (("A", "B"), (0.065, 0.065), ())


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_frames_follow_the_loops_slowest_first(data, tmp_path_factory):
    kinds = data.draw(st.permutations([TIME, POSITION, Z_STACK, CUSTOM]))[: data.draw(st.integers(0, 4))]
    loops = [Loop(kind, data.draw(st.integers(1, 3)), step_um=0.1) for kind in kinds]
    shape, channels = tuple(loop.count for loop in loops), data.draw(st.integers(1, 3))
    stored = np.arange(1, np.prod(shape, dtype=int) * channels + 1, dtype=np.uint16)
    stored = stored.reshape(*shape, channels, 1, 1) * np.ones((2, 3), np.uint16)
    path = write(tmp_path_factory.mktemp("nd2") / "a.nd2", stored.reshape(-1, channels, 2, 3), loops)
    names = ["TPZI"[[TIME, POSITION, Z_STACK, CUSTOM].index(kind)] for kind in kinds] + ["C"]
    position = None
    if "P" in names:
        number = data.draw(st.integers(0, shape[names.index("P")] - 1))
        position = str(number)
        stored = np.take(stored, [number], axis=names.index("P"))
    header, planes = _open(path, position)
    expected = {a: n for a, n in zip(names, stored.shape, strict=False) if n > 1 and a != "P"}
    assert list(header.axes.items()) == list(expected.items())
    np.testing.assert_array_equal(planes, stored.reshape(-1, 2, 3))


def test_one_plane(tmp_path, pixels):
    data = pixels(1, 1)
    header, planes = _open(write(tmp_path / "a.nd2", data))
    assert (dict(header.axes), header.z_step_um, header.plane_start_s) == ({}, None, None)
    np.testing.assert_array_equal(planes, data[0])


def test_it_is_chosen_by_content_opened_in_another_process_and_closed(tmp_path):
    recording = open_recording(example(tmp_path).rename(tmp_path / "a.tif"), readers=(NikonReader(),))
    again = pickle.loads(pickle.dumps(recording))
    np.testing.assert_array_equal(again.read_plane(11), recording.read_plane(11))
    assert not NikonReader().recognises(b"\0\0\0\x0cjP  \r\n\x87\n")


@pytest.mark.parametrize(("position", "number"), [("1", 1), ("left", 0), ("mid dle", 1), ("2", 2)])
def test_a_position_is_picked_with_its_times(position, number, tmp_path, pixels):
    data = pixels(6, 2)
    loops = [Loop(TIME, 2), Loop(POSITION, 3, names=["left", "mid dle", "same"])]
    path = write(tmp_path / "a.nd2", data, loops, times_ms=np.arange(6) * 7.0)
    header, planes = _open(path, position)
    assert dict(header.axes) == {"T": 2, "C": 2}
    np.testing.assert_array_equal(planes, data.reshape(2, 3, 2, 16, 24)[:, number].reshape(4, 16, 24))
    np.testing.assert_allclose(header.plane_start_s, np.repeat([0.007 * number, 0.007 * (3 + number)], 2))


@pytest.mark.parametrize("position", [None, "3", "elsewhere", "same", "-1"])
def test_several_positions_have_to_be_told_apart(position, tmp_path, pixels):
    path = write(tmp_path / "a.nd2", pixels(3), [Loop(POSITION, 3, names=["left", "same", "same"])])
    with pytest.raises(DataError, match=r"position.*0: 'left', 1: 'same', 2: 'same'"):
        NikonReader().open(path, position)


def test_a_file_without_positions_has_only_the_first(tmp_path):
    assert NikonReader().open(example(tmp_path), "0").header.planes == 12
    with pytest.raises(DataError, match="it holds one"):
        NikonReader().open(example(tmp_path), "1")


@pytest.mark.parametrize("times", [[0.0, 1.0], [0.0, 1.0, np.nan, 3.0, 4.0, 5.0], None], ids=str)
def test_times_count_only_where_every_frame_has_one(times, tmp_path, pixels):
    channels = [Channel("A", exposure_ms=2.0), Channel("B", exposure_ms=2.0)]
    header, _ = _open(write(tmp_path / "a.nd2", pixels(), TIMES_AND_SECTIONS, times_ms=times, channels=channels))
    assert (header.plane_start_s, header.exposure_s) == (None, None)


def test_exposures_count_only_where_every_channel_has_one(tmp_path, pixels):
    channels = [Channel("A", exposure_ms=2.0), Channel("B")]
    header, _ = _open(write(tmp_path / "a.nd2", pixels(), TIMES_AND_SECTIONS, times_ms=range(6), channels=channels))
    assert header.plane_start_s is not None
    assert header.exposure_s is None


def test_what_is_not_stated_is_not_invented(tmp_path, pixels):
    path = write(tmp_path / "a.nd2", pixels(2, 1), [Loop(TIME, 2)], pixel_um=None, na=0.0, index=0.0)
    with nd2.ND2File(path) as file:
        assert file.voxel_size().x == 1.0  # the library's word for unknown
    header, _ = _open(path)
    assert (header.pixel_um, header.z_step_um, dict(header.optics), header.channel_optics) == (None, None, {}, ({},))


def test_absurd_units_are_not_believed(tmp_path, pixels):
    loops = [Loop(Z_STACK, 2, step_um=float("nan"), bottom_to_top=False)]
    path = write(tmp_path / "a.nd2", pixels(2, 1), loops, pixel_um=1e30, na=77.0, index=float("inf"))
    header, _ = _open(path)
    assert (header.pixel_um, header.z_step_um, dict(header.optics)) == (None, None, {})
    assert header.metadata["z_order"] == "top to bottom"


def test_colour_images_are_refused(tmp_path, pixels):
    path = write(tmp_path / "a.nd2", pixels(2, 3), [Loop(TIME, 2)], channels=[Channel("RGB", components=3)])
    with pytest.raises(DataError, match="colour image"):
        NikonReader().open(path, None)


def test_compression_with_loss_is_refused(tmp_path, pixels):
    path = write(tmp_path / "a.nd2", pixels(2), [Loop(TIME, 2)], attributes={"eCompression": 1})
    with pytest.raises(DataError, match="with loss"):
        NikonReader().open(path, None)


@pytest.mark.parametrize("options", [{}, {"compressed": True}, {"xml": True}], ids=str)
def test_a_cut_file_is_told_when_it_is_opened(options, tmp_path, pixels):
    whole = write(tmp_path / "whole.nd2", pixels(), TIMES_AND_SECTIONS, **options).read_bytes()
    cut = tmp_path / "cut.nd2"
    for length in sorted({*np.linspace(0, len(whole) - 1, 60).astype(int).tolist(), 4, 16, 40, len(whole) - 40}):
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.nd2.*(truncated|no chunk)"):
            NikonReader().open(cut, None)


def test_a_file_cut_and_closed_by_its_own_map_is_told(tmp_path, pixels):
    whole = write(tmp_path / "a.nd2", pixels(), TIMES_AND_SECTIONS).read_bytes()
    listed = whole[int.from_bytes(whole[-8:], "little") :]
    half = whole[: len(whole) // 2] + listed[:-8] + (len(whole) // 2).to_bytes(8, "little")
    (tmp_path / "a.nd2").write_bytes(half)
    with nd2.ND2File(tmp_path / "a.nd2") as file:
        assert not file.read_frame(5).any()  # the library gives zeros
    with pytest.raises(DataError, match=r"no chunk ImageDataSeq\|\d.*truncated"):
        NikonReader().open(tmp_path / "a.nd2", None)


def test_a_missing_frame_is_never_zeros(tmp_path, pixels):
    found = chunks(pixels(), TIMES_AND_SECTIONS)
    del found[b"ImageDataSeq|2!"]
    (tmp_path / "a.nd2").write_bytes(file_bytes(found))
    with nd2.ND2File(tmp_path / "a.nd2") as file:
        assert not file.read_frame(2).any()
    with pytest.raises(DataError, match="frame 2 of 6 is missing"):
        NikonReader().open(tmp_path / "a.nd2", None)


def test_a_channel_that_was_skipped_is_never_zeros(tmp_path, pixels):
    data = pixels()
    data[3, 1] = 0
    image = NikonReader().open(write(tmp_path / "a.nd2", data, TIMES_AND_SECTIONS), None)
    np.testing.assert_array_equal(image.read_plane(6), data[3, 0])
    with pytest.raises(DataError, match=r"plane 7 \(channel 1\) holds only zeros"):
        image.read_plane(7)


@pytest.mark.parametrize("loops", [[Loop(TIME, 4), Loop(Z_STACK, 2)], [Loop(TIME, 2)], []], ids=["less", "more", "no"])
def test_frames_that_the_loops_do_not_account_for_are_only_counted(loops, tmp_path, pixels):
    data = pixels(5)
    header, planes = _open(write(tmp_path / "a.nd2", data, loops, times_ms=range(5)))
    assert dict(header.axes) == {"I": 5, "C": 2}
    assert "frames, the file has 5" in header.warnings[0]
    assert header.plane_start_s.size == 10
    np.testing.assert_array_equal(planes, data.reshape(-1, 16, 24))


def test_positions_of_a_recording_that_was_stopped(tmp_path, pixels):
    data = pixels(5)
    path = write(tmp_path / "a.nd2", data, [Loop(TIME, 3), Loop(POSITION, 2)])
    header, planes = _open(path, "1")
    assert dict(header.axes) == {"I": 2, "C": 2}
    assert header.warnings
    np.testing.assert_array_equal(planes, data[1::2].reshape(-1, 16, 24))
    with pytest.raises(DataError, match="never recorded"):
        NikonReader().open(write(tmp_path / "b.nd2", data, [Loop(POSITION, 9)]), "7")
    with pytest.raises(DataError, match="positions cannot be told"):
        NikonReader().open(write(tmp_path / "c.nd2", data, [Loop(POSITION, 2)]), "1")


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"uiWidth": 2**31, "uiHeight": 2**31}, "header is damaged"),
        ({"uiHeight": 0}, "nothing to read"),
        ({"uiHeight": 17}, "truncated or damaged"),
        ({"uiHeight": 2**14, "uiWidth": 2**14, "uiWidthBytes": 2**16}, "truncated or damaged"),
        ({"uiWidth": 25}, "truncated or damaged"),
        ({"uiWidthBytes": 2**32 - 1}, "truncated or damaged"),
        ({"uiComp": 2**32 - 1}, "header is damaged"),
        ({"uiBpcInMemory": 64}, "uint64, allowed"),
        ({"uiBpcInMemory": 12}, "12 bits"),
        ({"uiBpcInMemory": 0}, "cannot be decoded|allowed|bits"),
        ({"uiWidth": "wide"}, "cannot be decoded"),
    ],
    ids=str,
)
@pytest.mark.parametrize("compressed", [False, True])
def test_sizes_are_compared_with_the_frames_before_anything_is_allocated(
    attributes, told, compressed, tmp_path, pixels
):
    path = write(tmp_path / "a.nd2", pixels(), TIMES_AND_SECTIONS, attributes=attributes, compressed=compressed)
    with pytest.raises(DataError, match=told if not compressed else "."):
        _quickly(lambda: _open(path))


def test_pixels_that_hold_more_than_the_header_says_are_told(tmp_path, pixels):
    header, _ = _open(write(tmp_path / "a.nd2", pixels(), TIMES_AND_SECTIONS, attributes={"uiHeight": 15}))
    assert "96 at the end" in header.warnings[0]
    path = write(tmp_path / "b.nd2", pixels(size=(99, 24)), TIMES_AND_SECTIONS, attributes={"uiHeight": 15})
    with pytest.raises(DataError, match="too many"):
        NikonReader().open(path, None)
    path = write(tmp_path / "c.nd2", pixels(), TIMES_AND_SECTIONS, attributes={"uiHeight": 15}, compressed=True)
    with pytest.raises(DataError, match="plane 0 has"):
        _open(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_rows_longer_than_usual_are_told(compressed, tmp_path, pixels):
    data = pixels()
    header, planes = _open(write(tmp_path / "a.nd2", data, TIMES_AND_SECTIONS, row_padding=8, compressed=compressed))
    assert "8 bytes more per row" in header.warnings[0]
    np.testing.assert_array_equal(planes, data.reshape(-1, 16, 24))


def test_pixels_that_do_not_begin_where_they_must_are_told(tmp_path, pixels):
    whole = write(tmp_path / "a.nd2", pixels(), TIMES_AND_SECTIONS).read_bytes()
    place = whole.index(b"ImageDataSeq|3!") - 12  # length of the name
    (tmp_path / "a.nd2").write_bytes(whole[:place] + (4071).to_bytes(4, "little") + whole[place + 4 :])
    with pytest.raises(DataError, match="begin elsewhere"):
        NikonReader().open(tmp_path / "a.nd2", None)


def _quickly(action, seconds=10.0, peak_bytes=2**28):
    """Runs ``action``, which must neither hang nor allocate much."""
    tracemalloc.start()
    begin = time.process_time()
    try:
        return action()
    finally:
        elapsed, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert elapsed < seconds
        assert peak < peak_bytes


def _many_components(found):
    tree = {"bCalibrated": True, "dCalibration": 0.1, "sPicturePlanes": {"uiCount": 2}}
    tree["sPicturePlanes"]["sPlaneNew"] = {f"a{i}": {"uiCompCount": 2**32 - 1} for i in range(2)}
    return {PICTURE: lite_variant({"SLxPictureMetadata": tree})}


def _deep(found):
    tree = b""
    for _ in range(5000):  # each a level named "a" with one entry
        tree = b"\x0b\x02a\0\0\0" + struct.pack("<IQ", 1, 18 + len(tree)) + tree + bytes(8)
    return {PICTURE: tree}


TRAPS = {
    "many components": _many_components,
    "deeply nested": _deep,
    "inflating": lambda found: {TEXTS: compressed_variant(bytes(2**26))},
    "inflating twice": lambda found: {TEXTS: lite_variant({"a": compressed_variant(compressed_variant(bytes(2**25)))})},
    "inflating often": lambda found: {TEXTS: compressed_variant(bytes(2**18)) * 99},
    "endless text": lambda found: {TEXTS: lite_variant({"SLxImageTextInfo": {"TextInfoItem_5": "a" * 2**21}})},
    "many long texts": lambda found: {TEXTS: lite_variant({"a": {f"a{i}": "a" * 2**16 for i in range(30)}})},
    "longest metadata": lambda found: {TEXTS: bytes(2**25)},
    "entities": lambda found: {TEXTS: xml_variant({}, '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>')},
    "entities in UTF-16": lambda found: {TEXTS: '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode("utf-16-le")},
}


@pytest.mark.parametrize("trap", TRAPS)
def test_metadata_made_to_hang_or_to_fill_memory_are_refused(trap, tmp_path, pixels):
    found = chunks(pixels(), TIMES_AND_SECTIONS)
    (tmp_path / "a.nd2").write_bytes(file_bytes({**found, **TRAPS[trap](found)}))
    with pytest.raises(DataError, match=r"a\.nd2"):
        _quickly(lambda: NikonReader().open(tmp_path / "a.nd2", None))


def test_compressed_metadata_are_read(tmp_path, pixels):
    found = chunks(pixels(), TIMES_AND_SECTIONS)
    for name in (PICTURE, TEXTS):
        found[name] = compressed_variant(found[name])
    (tmp_path / "a.nd2").write_bytes(file_bytes(found))
    header, _ = _open(tmp_path / "a.nd2")
    assert (header.channels, header.metadata["software"]) == (("A", "B"), "NIS-Elements AR 5.21")


def test_damage_to_what_pixels_do_not_need_is_only_told(tmp_path, pixels):
    data = pixels()
    found = {**chunks(data, TIMES_AND_SECTIONS), TEXTS: b"\x0bnothing"}
    (tmp_path / "a.nd2").write_bytes(file_bytes(found))
    header, planes = _open(tmp_path / "a.nd2")
    assert "cannot be read" in header.warnings[0]
    assert (header.channels, header.pixel_um) == ((), (0.065, 0.065))
    np.testing.assert_array_equal(planes, data.reshape(-1, 16, 24))


@pytest.mark.parametrize("name", [b"ImageAttributesLV!", PICTURE])
def test_a_file_that_was_never_finished_is_told(name, tmp_path, pixels):
    found = chunks(pixels())
    del found[name]
    (tmp_path / "a.nd2").write_bytes(file_bytes(found))
    with pytest.raises(DataError, match="never finished"):
        NikonReader().open(tmp_path / "a.nd2", None)
    (tmp_path / "a.nd2").write_bytes(file_bytes({k: v for k, v in chunks(pixels()).items() if b"Data" not in k}))
    with pytest.raises(DataError, match="never finished"):
        NikonReader().open(tmp_path / "a.nd2", None)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_changes_after_it_was_opened_is_told(compressed, tmp_path, pixels):
    path = write(tmp_path / "a.nd2", pixels(), TIMES_AND_SECTIONS, compressed=compressed)
    image, whole = NikonReader().open(path, None), path.read_bytes()
    last = whole.index(b"ImageDataSeq|5!") + 4080
    path.write_bytes(whole[: last + 100])
    with pytest.raises(DataError, match=r"plane 11 (has|cannot)"):
        image.read_plane(11)
    path.write_bytes(whole[: last + 100] + bytes([whole[last + 100] ^ 8]) + whole[last + 101 :])
    if compressed:  # a checksum tells
        with pytest.raises(DataError, match="plane 11"):
            image.read_plane(11)


@pytest.mark.parametrize("options", [{}, {"compressed": True}, {"xml": True}, {"positions": True}], ids=str)
def test_damage_anywhere_but_in_pixels_is_told_or_harmless(options, tmp_path, pixels):
    data, position = pixels(), "1" if options else None
    loops = [Loop(TIME, 2), Loop(POSITION, 3)] if "positions" in options else TIMES_AND_SECTIONS
    position = "1" if "positions" in options else None
    options = {k: v for k, v in options.items() if k != "positions"}
    found = chunks(data, loops, times_ms=range(6), **options)
    whole = file_bytes(found, "2.1" if options.get("xml") else "3.0")
    (tmp_path / "a.nd2").write_bytes(whole)
    header, planes = _open(tmp_path / "a.nd2", position)
    inside = np.frombuffer(whole, np.uint8) > 0
    for frame in (v for k, v in found.items() if k.startswith(b"ImageDataSeq")):
        begin = whole.index(frame)
        inside[begin : begin + len(frame)] = False
    places, rng, messages = np.flatnonzero(inside), np.random.default_rng(2), []
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.choice(places, 2):
            damaged[place] = rng.integers(256)
        (tmp_path / "b.nd2").write_bytes(damaged)
        try:
            header_b, planes_b = _open(tmp_path / "b.nd2", position)
        except DataError as error:
            messages.append(str(error))
        else:
            if not header_b.warnings:
                assert dict(header_b.axes) == dict(header.axes)
                np.testing.assert_array_equal(planes_b, planes)
    assert len(messages) > 30
    assert all(message.isprintable() for message in messages)


def test_texts_of_the_file_are_made_printable(tmp_path, pixels):
    channels = [Channel("A\n\x1b[31m"), Channel("B" * 900)]
    header, _ = _open(write(tmp_path / "a.nd2", pixels(), TIMES_AND_SECTIONS, channels=channels))
    assert all(name.isprintable() and len(name) <= 240 for name in header.channels)
