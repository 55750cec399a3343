import json
import logging
import pickle
import struct

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.io.files import open_recording
from nstm.io.tiff import TiffReader
from tests.files.tiff import planes, write_stk


def _planes(path, position=None):
    image = TiffReader().open(path, position)
    return image.header, np.stack([image.read_plane(i) for i in range(image.header.planes)])


WRITERS = {
    "one page": ({"photometric": "minisblack", "metadata": None}, (), {}),
    "pages": ({"photometric": "minisblack", "metadata": None}, (7,), {"I": 7}),
    "shaped": ({"photometric": "minisblack"}, (2, 5), {"Q": 2, "Q1": 5}),
    "big": ({"photometric": "minisblack", "bigtiff": True, "metadata": None}, (7,), {"I": 7}),
    "big, big endian": (
        {"photometric": "minisblack", "bigtiff": True, "byteorder": ">", "metadata": None},
        (7,),
        {"I": 7},
    ),
    "big, big endian, tiles": (
        {
            "photometric": "minisblack",
            "bigtiff": True,
            "byteorder": ">",
            "tile": (16, 16),
            "compression": "zstd",
            "predictor": True,
            "metadata": None,
        },
        (3,),
        {"I": 3},
    ),
    "big endian": ({"photometric": "minisblack", "byteorder": ">", "metadata": None}, (3,), {"I": 3}),
    "big endian, zlib": (
        {"photometric": "minisblack", "byteorder": ">", "compression": "zlib", "metadata": None},
        (3,),
        {"I": 3},
    ),
    "strips": ({"photometric": "minisblack", "rowsperstrip": 5, "metadata": None}, (4,), {"I": 4}),
    "zlib strips": (
        {"photometric": "minisblack", "rowsperstrip": 5, "compression": "zlib", "metadata": None},
        (4,),
        {"I": 4},
    ),
    "lzw": ({"photometric": "minisblack", "compression": "lzw", "predictor": True, "metadata": None}, (4,), {"I": 4}),
    "tiles": ({"photometric": "minisblack", "tile": (16, 16), "compression": "zlib", "metadata": None}, (4,), {"I": 4}),
    "imagej": ({"imagej": True, "metadata": {"axes": "TZCYX"}}, (2, 3, 4), {"T": 2, "Z": 3, "C": 4}),
    "imagej zlib": ({"imagej": True, "metadata": {"axes": "ZCYX"}, "compression": "zlib"}, (3, 9), {"Z": 3, "C": 9}),
    "ome": ({"ome": True, "metadata": {"axes": "TCYX"}, "photometric": "minisblack"}, (3, 9), {"T": 3, "C": 9}),
    "ome zlib": (
        {"ome": True, "metadata": {"axes": "TZCYX"}, "compression": "zlib", "photometric": "minisblack"},
        (2, 3, 4),
        {"T": 2, "Z": 3, "C": 4},
    ),
    "ome big": (
        {"ome": True, "metadata": {"axes": "TZYX"}, "bigtiff": True, "photometric": "minisblack"},
        (2, 3),
        {"T": 2, "Z": 3},
    ),
    "truncated ifds": ({"imagej": True, "truncate": True, "metadata": {"axes": "ZYX"}}, (6,), {"Z": 6}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_way_of_writing_is_read_plane_by_plane(kind, tmp_path, stack):
    options, shape, axes = WRITERS[kind]
    data = stack(*shape)
    path = tmp_path / "raw.dat"  # the name says nothing
    tifffile.imwrite(path, data, **options)
    header, planes = _planes(path)
    assert dict(header.axes) == axes
    assert (header.plane_shape, header.dtype, header.file_bytes) == ((16, 24), np.uint16, path.stat().st_size)
    np.testing.assert_array_equal(planes, data.reshape(-1, 16, 24))
    assert planes.dtype.isnative


@pytest.mark.parametrize(
    ("compression", "predictor"),
    [
        *((c, p) for c in ("lzw", "zlib", "zstd", "lzma") for p in (False, True)),
        *((c, False) for c in ("packbits", "lerc", "jpeg")),
    ],
)
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_every_compression_gives_what_tifffile_gives(compression, predictor, tile, tmp_path, stack):
    data = stack(3, size=(40, 24), dtype=np.uint8 if compression == "jpeg" else np.uint16)
    options = {"tile": tile} if tile else {"rowsperstrip": 16}
    tifffile.imwrite(
        tmp_path / "a.tif", data, photometric="minisblack", compression=compression, predictor=predictor, **options
    )
    _, planes = _planes(tmp_path / "a.tif")
    np.testing.assert_array_equal(planes, tifffile.imread(tmp_path / "a.tif"))
    if compression != "jpeg":
        np.testing.assert_array_equal(planes, data)


def test_pages_that_are_decoded_alike_are_looked_up_once(tmp_path, stack, monkeypatch):
    data, opened = stack(12), []
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", compression="zlib", metadata=None)
    image = TiffReader().open(tmp_path / "a.tif", None)
    original = tifffile.TiffFile
    monkeypatch.setattr(tifffile, "TiffFile", lambda *args, **more: opened.append(1) or original(*args, **more))
    image.read_plane(3)
    again = pickle.loads(pickle.dumps(image))
    for reader in (image, again):
        np.testing.assert_array_equal(np.stack([reader.read_plane(i) for i in range(12)]), data)
    assert len(opened) == 2


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "int32", "float32", "float64"])
def test_every_camera_type_is_kept(dtype, tmp_path, stack):
    data = stack(3, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    header, planes = _planes(tmp_path / "a.tif")
    assert header.dtype == dtype
    np.testing.assert_array_equal(planes, data)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_frames_written_one_by_one_are_all_there_in_order(compression, tmp_path, stack):
    data = stack(9)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, plane in enumerate(data):  # pages that differ in their tags make series of their own
            rows = None if compression is None else (4 if number % 2 else 16)
            writer.write(plane, contiguous=False, compression=compression, rowsperstrip=rows)
    header, planes = _planes(tmp_path / "a.tif")
    assert dict(header.axes) == {"I": 9}
    np.testing.assert_array_equal(planes, data)


@pytest.mark.parametrize("metadata", [None, {}])
def test_pages_of_alternating_kinds_keep_the_order_of_the_file(metadata, tmp_path, stack):
    data = stack(6)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, plane in enumerate(data):
            compression = "zlib" if number % 2 else None
            writer.write(plane, contiguous=False, compression=compression, metadata=metadata)
    np.testing.assert_array_equal(_planes(tmp_path / "a.tif")[1], data)


def test_pages_of_different_size_are_refused(tmp_path, stack):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(stack(), metadata=None)
        writer.write(stack(size=(8, 8)), metadata=None)
    with pytest.raises(DataError, match="pages differ"):
        TiffReader().open(tmp_path / "a.tif", None)


@pytest.mark.parametrize(
    "kind", ["pages", "big", "zlib strips", "imagej", "imagej zlib", "ome", "ome zlib", "truncated ifds", "shaped"]
)
def test_a_cut_file_is_told_from_its_header(kind, tmp_path, stack):
    options, shape, _ = WRITERS[kind]
    data = stack(*shape)
    tifffile.imwrite(tmp_path / "whole.tif", data, **options)
    whole = (tmp_path / "whole.tif").read_bytes()
    cut, refused = tmp_path / "cut.tif", 0
    lengths = sorted({*np.linspace(1, len(whole) - 1, 60).astype(int).tolist(), 4, 8, 16})
    for length in lengths:
        cut.write_bytes(whole[:length])
        try:
            planes = _planes(cut)[1]
        except DataError as error:
            refused += "cut.tif" in str(error)
        else:  # only texts at the end are gone, no plane
            np.testing.assert_array_equal(planes, data.reshape(-1, 16, 24))
            assert length > len(whole) - 600
    assert refused >= len(lengths) - 10


def test_a_directory_that_points_back_is_no_endless_loop(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack(3), photometric="minisblack", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        last, first = tif.pages[2].offset, tif.pages[0].offset
    count = struct.unpack_from("<H", data, last)[0]
    struct.pack_into("<I", data, last + 2 + 12 * count, first)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(DataError, match="points back"):
        TiffReader().open(tmp_path / "a.tif", None)


def test_damage_anywhere_in_the_header_is_an_error_of_the_data_or_harmless(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack(3, size=(8, 8)), compression="zlib", photometric="minisblack", ome=True)
    whole = (tmp_path / "a.tif").read_bytes()
    rng, messages = np.random.default_rng(1), []
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        (tmp_path / "b.tif").write_bytes(data)
        try:
            recording = open_recording(tmp_path / "b.tif")
            [recording.read_plane(i) for i in range(min(recording.planes, 4))]
        except DataError as error:
            messages.append(str(error))
    assert messages
    assert all(message.isprintable() for message in messages)


def test_absurd_sizes_are_refused_before_anything_is_allocated(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack(1), photometric="minisblack", compression="zlib", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages[0].tags[256].overwrite(2**31 - 1)
        tif.pages[0].tags[257].overwrite(2**31 - 1)
    with pytest.raises(DataError, match=r"header"):
        TiffReader().open(tmp_path / "a.tif", None)


def test_an_ome_header_with_absurd_counts_is_refused(tmp_path, stack):
    xml = tifffile.OmeXml()
    xml.addimage("uint16", (2, 16, 24), (2, 1, 1, 16, 24, 1), axes="TYX")
    text = xml.tostring().replace('SizeT="2"', 'SizeT="2000000000"').encode()
    tifffile.imwrite(tmp_path / "a.tif", stack(2), description=text, metadata=None, photometric="minisblack")
    with pytest.raises(DataError, match=r"2000000000|damaged"):
        TiffReader().open(tmp_path / "a.tif", None)


def test_planes_that_an_ome_header_promises_but_the_file_lacks_are_never_zeros(tmp_path, stack):
    xml = tifffile.OmeXml()
    xml.addimage("uint16", (5, 16, 24), (5, 1, 1, 16, 24, 1), axes="TYX")
    tifffile.imwrite(
        tmp_path / "a.tif", stack(2), description=xml.tostring().encode(), metadata=None, photometric="minisblack"
    )
    with pytest.raises(DataError, match="tells of 5 planes but"):
        TiffReader().open(tmp_path / "a.tif", None)


@pytest.mark.parametrize(
    "evil",
    [
        '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;&a;">]><OME>&c;</OME>',
        '<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd"><OME></OME>',
    ],
)
def test_entities_are_refused(evil, tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack(2), description=evil, metadata=None, photometric="minisblack")
    with pytest.raises(DataError, match="DOCTYPE"):
        TiffReader().open(tmp_path / "a.tif", None)


@pytest.mark.parametrize("colour", ["rgb", "palette", "planar"])
def test_colour_images_are_refused(colour, tmp_path, stack):
    data = stack(dtype=np.uint8)
    if colour == "palette":
        tifffile.imwrite(tmp_path / "a.tif", data, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    elif colour == "rgb":
        tifffile.imwrite(tmp_path / "a.tif", np.stack([data] * 3, -1), photometric="rgb")
    else:
        tifffile.imwrite(tmp_path / "a.tif", np.stack([data] * 3), photometric="rgb", planarconfig="separate")
    with pytest.raises(DataError, match="grey values"):
        TiffReader().open(tmp_path / "a.tif", None)


@pytest.mark.parametrize("dtype", ["complex64", "float16", "uint64"])
def test_types_that_no_camera_has_are_refused(dtype, tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack(dtype=dtype), photometric="minisblack")
    with pytest.raises(DataError, match=f"{dtype}, allowed: uint8"):
        TiffReader().open(tmp_path / "a.tif", None)


def test_imagej_units_and_labels(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack(2, 3),
        imagej=True,
        resolution=(1 / 0.065, 1 / 0.08),
        metadata={"axes": "ZCYX", "unit": "um", "spacing": 0.25, "Labels": ["A", "B", "C"] * 2},
    )
    header, _ = _planes(tmp_path / "a.tif")
    assert header.format == "ImageJ TIFF"
    assert header.pixel_um == pytest.approx((0.08, 0.065), rel=1e-5)
    assert header.z_step_um == pytest.approx(0.25)


@pytest.mark.parametrize(("unit", "expected"), [(None, "0.25"), ("ms", "0.00025"), ("fortnights", None)])
def test_the_frame_interval_of_imagej_is_told_but_makes_no_times(unit, expected, tmp_path, stack):
    metadata = {"axes": "TZYX", "finterval": 0.25, **({"tunit": unit} if unit else {})}
    tifffile.imwrite(tmp_path / "a.tif", stack(3, 2), imagej=True, metadata=metadata)
    header, _ = _planes(tmp_path / "a.tif")
    assert header.metadata.get("frame_interval_s") == expected
    assert header.plane_start_s is None


def test_metamorph_times_exposures_and_scale(tmp_path):
    starts = [0, 40, 80, 130, 170, 90_000]
    data = planes(6)
    header, found = _planes(write_stk(tmp_path / "a.dat", data, starts, ["20 ms"] * 6))
    np.testing.assert_array_equal(found, data)
    assert (header.format, dict(header.axes)) == ("MetaMorph STK", {"T": 6})
    np.testing.assert_allclose(header.plane_start_s, np.array(starts) / 1000)
    np.testing.assert_allclose(header.exposure_s, 0.02)
    assert header.pixel_um == pytest.approx((0.065, 0.065))
    stack_in_depth, _ = _planes(write_stk(tmp_path / "b.dat", data, starts, ["20 ms", "?"], z_um=0.3))
    assert (dict(stack_in_depth.axes), stack_in_depth.z_step_um) == ({"Z": 6}, pytest.approx(0.3))
    assert stack_in_depth.exposure_s is None
    path = tmp_path / "a.dat"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="truncated"):
        TiffReader().open(path, None)


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [("CENTIMETER", 1e4 / 0.1, 0.1), ("INCH", 25400 / 0.1, 0.1), ("INCH", 72, None), ("NONE", 10, None)],
)
def test_plain_resolution_counts_only_where_a_microscope_could_have_it(unit, per_unit, expected, tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.tif", stack(), resolution=(per_unit, per_unit), resolutionunit=unit, photometric="minisblack"
    )
    found = _planes(tmp_path / "a.tif")[0].pixel_um
    assert found == (None if expected is None else pytest.approx((expected, expected), rel=1e-4))


def test_ome_units_names_and_times(tmp_path, stack):
    planes = 6
    metadata = {
        "axes": "TCYX",
        "PhysicalSizeX": 65.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.065,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": 0.5,
        "Channel": {"Name": ["GFP <b>", "RFP"]},
        "Plane": {
            "DeltaT": [float(i) for i in range(planes)],
            "DeltaTUnit": ["ms"] * planes,
            "ExposureTime": [0.5] * planes,
            "ExposureTimeUnit": ["ms"] * planes,
        },
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", stack(3, 2), ome=True, photometric="minisblack", metadata=metadata)
    header, _ = _planes(tmp_path / "a.ome.tif")
    assert header.format == "OME-TIFF"
    assert header.pixel_um == pytest.approx((0.065, 0.065))
    assert header.z_step_um == 0.5
    assert header.channels == ("GFP <b>", "RFP")
    np.testing.assert_allclose(header.plane_start_s, np.arange(6) * 1e-3)
    np.testing.assert_allclose(header.exposure_s, 0.5e-3)


def _ome_xml(
    tail="", channel="", settings='<ObjectiveSettings ID="Objective:1" RefractiveIndex="1.518"/>', objectives=2
):
    listed = "".join(f'<Objective ID="Objective:{i}" LensNA="{0.95 + 0.5 * i}"/>' for i in range(objectives))
    channels = "".join(f'<Channel ID="Channel:0:{c}" SamplesPerPixel="1" {channel.format(c)}/>' for c in range(2))
    tiff = "".join(f'<TiffData IFD="{i}" FirstC="{i % 2}" FirstT="{i // 2}" PlaneCount="1"/>' for i in range(6))
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Instrument ID="Instrument:0">{listed}</Instrument><Image ID="Image:0">{settings}'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCTZ" Type="uint16" SizeX="24" SizeY="16" '
        'SizeZ="1" SizeC="2" SizeT="3">'
        f"{channels}{tiff}</Pixels></Image>{tail}</OME>"
    ).encode()


def _ome_header(tmp_path, stack, **more):
    tifffile.imwrite(tmp_path / "a.ome.tif", stack(6), description=_ome_xml(**more), metadata=None)
    header, planes = _planes(tmp_path / "a.ome.tif")
    assert dict(header.axes) == {"T": 3, "C": 2}
    np.testing.assert_array_equal(planes, stack(6))
    return header


def test_ome_optics_of_the_objective_that_was_used(tmp_path, stack):
    channel = 'EmissionWavelength="52{0}.5" ExcitationWavelength="0.488" ExcitationWavelengthUnit="µm"'
    header = _ome_header(tmp_path, stack, channel=channel)
    assert header.optics == pytest.approx({"na": 1.45, "index": 1.518, "excitation_wavelength_um": 0.488})
    assert [o["emission_wavelength_um"] for o in header.channel_optics] == pytest.approx([0.5205, 0.5215])


@pytest.mark.parametrize(
    ("settings", "objectives", "optics"),
    [
        ("", 1, {"na": 0.95}),  # the only one there is
        ("", 2, {}),  # one of two: not guessed
        ('<ObjectiveSettings ID="Objective:7" RefractiveIndex="nan"/>', 1, {}),
        ('<ObjectiveSettings ID="Objective:0" RefractiveIndex="-3"/>', 2, {"na": 0.95}),
    ],
)
def test_ome_optics_that_are_not_told_are_left_out(settings, objectives, optics, tmp_path, stack):
    channel = 'EmissionWavelength="525" EmissionWavelengthUnit="pixel" ExcitationWavelength="488000"'
    header = _ome_header(tmp_path, stack, settings=settings, objectives=objectives, channel=channel)
    assert header.optics == pytest.approx(optics)
    assert all(o == {} for o in header.channel_optics)


def test_ome_times_are_used_only_when_every_plane_has_one(tmp_path, stack):
    metadata = {"axes": "TYX", "Plane": {"DeltaT": [0.0, 1.0, 2.5], "DeltaTUnit": ["s", "s", "s"]}}
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack(3), ome=True, photometric="minisblack", metadata=metadata)
    assert _planes(path)[0].plane_start_s.tolist() == [0, 1, 2.5]
    path.write_bytes(path.read_bytes().replace(b'DeltaT="2.5"', b'NoDelt="2.5"'))
    assert _planes(path)[0].plane_start_s is None


def test_several_images_need_a_position(tmp_path, stack):
    data = stack(2, 3)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for number in range(2):
            writer.write(data[number], photometric="minisblack", metadata={"axes": "TYX", "Name": f"well {number}"})
    with pytest.raises(
        DataError, match=r"2 images \(positions\) in the file: give `position`, one of 0: 'well 0', 1: 'well 1'"
    ):
        TiffReader().open(tmp_path / "a.ome.tif", None)
    for position in ("1", "well 1"):
        np.testing.assert_array_equal(_planes(tmp_path / "a.ome.tif", position)[1], data[1])
    with pytest.raises(DataError, match="no position 'well 7'"):
        TiffReader().open(tmp_path / "a.ome.tif", "well 7")


def test_an_ome_set_of_files_is_not_followed_to_other_files(tmp_path, stack):
    xml = tifffile.OmeXml()
    xml.addimage("uint16", (2, 16, 24), (2, 1, 1, 16, 24, 1), axes="TYX", ifds=[0])
    text = xml.tostring()
    text = text.replace(
        "<TiffData",
        '<TiffData FirstT="0" IFD="0"><UUID FileName="/etc/passwd">urn:uuid:1</UUID></TiffData><TiffData',
        1,
    )
    data = stack(1)
    tifffile.imwrite(tmp_path / "a.tif", data, description=text.encode(), metadata=None, photometric="minisblack")
    try:
        header, planes = _planes(tmp_path / "a.tif")
    except DataError:
        return
    np.testing.assert_array_equal(planes, data)
    assert any("set" in warning for warning in header.warnings)


def test_hostile_texts_are_bounded_and_printable(tmp_path, stack):
    evil = "$(rm -rf ~)\x1b[31m<script>alert(1)</script>\u202e" + "A" * 100_000
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack(2),
        imagej=True,
        metadata={
            "axes": "TYX",
            "Info": evil,
            "Labels": [evil, evil],
            **{f"key{i}": evil.encode("ascii", "replace").decode() for i in range(300)},
        },
    )
    header, _ = _planes(tmp_path / "a.tif")
    text = json.dumps(dict(header.metadata))
    assert len(text) < 30_000
    assert all(value.isprintable() and key.isprintable() for key, value in header.metadata.items())


def test_the_terminal_stays_quiet_about_damaged_files(tmp_path, stack, caplog, capfd):
    tifffile.imwrite(tmp_path / "a.tif", stack(6), imagej=True, truncate=True)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[:-100])
    with caplog.at_level(logging.DEBUG), pytest.raises(DataError, match="truncated"):
        TiffReader().open(tmp_path / "a.tif", None)
    assert not caplog.records
    assert capfd.readouterr().err == ""
    with caplog.at_level(logging.DEBUG):  # what others do with tifffile is logged as before
        logging.getLogger("tifffile").warning("heard")
    assert len(caplog.records) == 1


def _patch(path, page, code, value, part="value"):
    """Overwrite the value (or count, or code) of a tag in a classic little-endian file."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[page].tags[code]
    struct.pack_into(*(("<H", data, tag.offset) if part == "code" else ("<I", data, tag.offset + 8)), value)
    path.write_bytes(data)


@pytest.fixture
def pages(tmp_path, stack):
    """Six pages, one by one, not compressed."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in stack(6):
            writer.write(plane, contiguous=False, metadata=None, photometric="minisblack")
    return tmp_path / "a.tif"


def _offset(path, page):
    with tifffile.TiffFile(path) as tif:
        return tif.pages[page].dataoffsets[0]


@pytest.mark.parametrize("shift", [-768, -64, -1, 1, 64, 700])
def test_pixels_that_would_be_taken_from_another_page_are_refused(shift, pages):
    _patch(pages, 3, 273, _offset(pages, 3) + shift)
    with pytest.raises(DataError, match=r"begins within|some bytes off the place"):
        TiffReader().open(pages, None)


@pytest.mark.parametrize("shift", [-10, -1])
def test_pixels_that_begin_in_the_padding_before_them_are_refused(shift, tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack(6), photometric="minisblack", metadata=None, software="", align=64)
    first = _offset(tmp_path / "a.tif", 0)
    assert not any((tmp_path / "a.tif").read_bytes()[first + shift : first])
    _patch(tmp_path / "a.tif", 0, 273, first + shift)
    with pytest.raises(DataError, match="some bytes off the place"):
        TiffReader().open(tmp_path / "a.tif", None)


def test_bytes_behind_the_pixels_are_no_fault(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack(1) + 1, photometric="minisblack", metadata=None)
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes() + b"some notes of the microscope")
    header, planes = _planes(tmp_path / "a.tif")
    assert header.warnings == ()
    np.testing.assert_array_equal(planes[0], stack(1)[0] + 1)


def test_two_pages_with_the_same_pixels_are_refused(pages):
    _patch(pages, 3, 273, _offset(pages, 2))
    with pytest.raises(DataError, match="begins within another plane"):
        TiffReader().open(pages, None)


@pytest.mark.parametrize(
    ("code", "value", "words"),
    [
        (256, 23, r"pages differ: \(16, 24\) uint16 and \(16, 23\)"),
        (258, 8, "pages differ: .* uint16 and .* uint8"),
        (279, 767, "page 3 has 767 bytes of pixels, by its sizes 768"),
        (279, 769, "page 3 has 769 bytes of pixels"),
        (259, 5, "cannot be decoded|not as before"),
        (278, 8, "lies in 1 parts, by its sizes in 2"),
    ],
)
def test_a_page_that_is_not_like_the_others_is_refused(code, value, words, pages):
    _patch(pages, 3, code, value)
    with pytest.raises(DataError, match=words):
        _planes(pages)


def test_a_lost_tag_of_the_coding_is_noticed(tmp_path, stack):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in stack(3):
            writer.write(plane, contiguous=False, metadata=None, compression="lzw", predictor=True)
    whole = (tmp_path / "a.tif").read_bytes()
    for code, words in ((259, "bytes of pixels, by its sizes"), (317, "another coding with the same compression")):
        (tmp_path / "a.tif").write_bytes(whole)
        _patch(tmp_path / "a.tif", 1, code, 65000, part="code")
        with pytest.raises(DataError, match=words):
            TiffReader().open(tmp_path / "a.tif", None)


def test_pages_that_the_chain_has_lost_are_told(pages, stack):
    data = bytearray(pages.read_bytes())
    with tifffile.TiffFile(pages) as tif:
        second, fourth = tif.pages[1].offset, tif.pages[3].offset
    struct.pack_into("<I", data, data.index(struct.pack("<I", second), 100), fourth)
    pages.write_bytes(data)
    header, planes = _planes(pages)
    np.testing.assert_array_equal(planes, stack(6)[[0, 3, 4, 5]])
    assert any("belong to no page of it: planes may be missing" in warning for warning in header.warnings)


def test_pages_of_full_size_that_are_marked_as_previews_are_told(tmp_path, stack):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, plane in enumerate(stack(4)):
            preview = {"subfiletype": 1, "rowsperstrip": 4} if number == 2 else {}
            writer.write(plane, contiguous=False, metadata=None, **preview)
    header, planes = _planes(tmp_path / "a.tif")
    np.testing.assert_array_equal(planes, stack(4)[[0, 1, 3]])
    assert any("previews" in warning for warning in header.warnings)


def test_a_page_that_would_unpack_to_gigabytes_is_refused_before(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack(1), compression="zlib", photometric="minisblack", metadata=None)
    for code in (256, 257, 278):
        _patch(tmp_path / "a.tif", 0, code, 2**14)
    with pytest.raises(DataError, match="would unpack"):
        TiffReader().open(tmp_path / "a.tif", None)


def test_data_damaged_inside_a_plane_are_told_when_read(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack(3), compression="zlib", photometric="minisblack", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        start, count = tif.pages[1].dataoffsets[0], tif.pages[1].databytecounts[0]
    data[start : start + count] = b"\xff" * count
    (tmp_path / "a.tif").write_bytes(data)
    image = TiffReader().open(tmp_path / "a.tif", None)
    image.read_plane(0)
    with pytest.raises(DataError, match="plane 1 cannot be decoded"):
        image.read_plane(1)


def test_real_er_time_lapse_is_labelled_as_imagej_did(shared_data):
    header, planes = _planes(shared_data / "sim" / "er_timelapse_tirf" / "ER_1.tif")
    assert dict(header.axes) == {"Z": 3, "C": 9}
    assert header.pixel_um is None  # the file says one pixel per inch
    assert planes.shape == (27, 112, 512)
