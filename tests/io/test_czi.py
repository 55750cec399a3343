"""The CZI reader against pylibCZIrw and czifile, on real files and on written ones, whole and damaged."""

import contextlib
import itertools
import pickle
import struct
import time
import tracemalloc

import czifile
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylibCZIrw import czi as libczi

from nstm.acquisition import DataError
from nstm.io.czi import CziReader
from nstm.io.files import open_recording
from tests.files.czi import AXES, Block, example, metadata_xml, write_czi, write_elyra_czi

REAL = {
    "CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi": {"T": 3, "C": 2, "Z": 5},
    "LLS7_small.czi": {"T": 2, "C": 2, "Z": 3},
    "LSM880_AiryScan.czi": {"C": 4, "H": 32},
}


def _open(path, position=None):
    return CziReader().open(path, position)


def _planes(image):
    """All planes ``(*axes, y, x)``."""
    header = image.header
    planes = [image.read_plane(i) for i in range(header.planes)]
    return np.stack(planes).reshape(*header.axes.values(), *header.plane_shape)


def _labelled(image):
    """All planes ``(T, R, H, Z, C, y, x)``, whatever the order of the axes in the file."""
    long = dict(image.header.axes)
    planes = _planes(image)
    planes = np.moveaxis(planes, [list(long).index(a) for a in AXES if a in long], range(len(long)))
    return planes.reshape(*(long.get(a, 1) for a in AXES), *planes.shape[-2:])


def _by_libczi(path, axes):
    """All planes as pylibCZIrw gives them; of a missing one it gives zeros."""
    with libczi.open_czi(str(path)) as document:
        places = itertools.product(*map(range, axes.values()))
        planes = [document.read(plane=dict(zip(axes, place, strict=True)))[..., 0] for place in places]
    return np.stack(planes).reshape(*axes.values(), *planes[0].shape)


def _by_czifile(path, axes):
    """The planes along ``axes`` as czifile decodes the subblocks, uncompressed ones only."""
    with czifile.CziFile(path) as document:
        found = {}
        for block in document.subblocks():
            at = {d.dimension: d.start for d in block.dimension_entries}
            found[tuple(at.get(a, 0) for a in axes)] = block.data().squeeze()
    places = itertools.product(*map(range, axes.values()))
    return np.stack([found[place] for place in places]).reshape(*axes.values(), *found[(0,) * len(axes)].shape)


def _frames(*shape, dtype=np.uint16, size=(10, 12), seed=1):
    return np.random.default_rng(seed).integers(1, 250, (*shape, *size)).astype(dtype)


class TestRealFiles:
    @pytest.mark.parametrize("name", REAL)
    def test_pixels_are_those_of_both_libraries(self, shared_data, name):
        path = shared_data / "vendor" / "czi" / name
        image = _open(path)
        assert dict(image.header.axes) == REAL[name]
        planes = _planes(image)
        np.testing.assert_array_equal(planes, _by_libczi(path, REAL[name]))
        if "comp1" not in name:  # czifile cannot decode Zstandard
            np.testing.assert_array_equal(planes, _by_czifile(path, REAL[name]))

    def test_zstandard_without_scale_or_optics(self, shared_data):
        header = _open(shared_data / "vendor" / "czi" / "CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi").header
        assert header.plane_shape == (170, 240)
        assert header.dtype == np.uint16
        assert header.pixel_um is None
        assert header.channels == ()
        assert header.plane_start_s is None
        assert header.warnings == ()

    def test_lattice_light_sheet(self, shared_data):
        header = _open(shared_data / "vendor" / "czi" / "LLS7_small.czi").header
        assert header.plane_shape == (64, 64)
        assert header.pixel_um == pytest.approx((0.144992, 0.144992))
        assert header.z_step_um == pytest.approx(0.144992)
        assert header.channels == ("LatticeLightsheet 1-T1", "LatticeLightsheet 2-T2")
        assert header.optics == {"na": 1.0, "index": 1.33}  # of the detection objective, of three in the file
        assert [c["excitation_wavelength_um"] for c in header.channel_optics] == [0.561, 0.488]
        assert [c["emission_wavelength_um"] for c in header.channel_optics] == [0.642, 0.561]
        assert header.metadata["channel_0_exposure_s"] == "0.03"
        assert header.plane_start_s is None  # 0 and 90.038 s are those of time points with three sections
        np.testing.assert_allclose(np.diff(header.time_point_s), 90.038, atol=5e-4)

    def test_airyscan_has_32_elements_in_half_of_its_channels(self, shared_data):
        """Channels 0 to 3 hold 32 detector elements each, 4 to 7 one plane: 132 planes of 8 x 32."""
        header = _open(shared_data / "vendor" / "czi" / "LSM880_AiryScan.czi").header
        assert header.plane_shape == (36, 38)
        assert header.channels == ("ChA-T1", "ChA-T2", "ChA-T3", "ChA-T4")
        assert [c["excitation_wavelength_um"] for c in header.channel_optics] == [0.633, 0.561, 0.488, 0.405]
        assert header.optics == {"na": 1.4, "index": 1.518}
        assert header.pixel_um == pytest.approx((0.035298, 0.035298), rel=1e-5)
        (note,) = header.warnings
        assert "124 of 256 planes are missing (first: H = 1 C = 4" in note
        assert "of 8 channels the first 4 are whole and used, 4 planes" in note


class TestPixels:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("compression", ["none", "zstd0", "zstd1", "zstd"])
    def test_elyra_files_are_read_alike_by_pylibczirw(self, tmp_path, compression, dtype):
        frames = _frames(2, 3, 5, 2, 2, dtype=dtype)
        path = write_elyra_czi(tmp_path / "a.czi", frames, compression=compression)
        axes = dict(zip(AXES, frames.shape[:5], strict=True))
        np.testing.assert_array_equal(_by_libczi(path, axes), frames)
        image = _open(path)
        assert image.header.dtype == dtype
        np.testing.assert_array_equal(_labelled(image), frames)

    def test_elyra_files_are_read_alike_by_czifile(self, tmp_path):
        frames = _frames(2, 3, 5, 2, 2)
        path = write_elyra_czi(tmp_path / "a.czi", frames, times_s=np.arange(120.0).reshape(frames.shape[:5]))
        np.testing.assert_array_equal(_by_czifile(path, dict(zip(AXES, frames.shape[:5], strict=True))), frames)
        with czifile.CziFile(path) as document:
            (stamps,) = [a.data() for a in document.attachments()]
            assert stamps == pytest.approx([0.0, 60.0])
            assert 'Name="SR-SIM 561"' in document.metadata()

    def test_jpeg_xr_is_read_alike_by_pylibczirw_and_told(self, tmp_path):
        frames = _frames(1, 3, 3, 1, 1, size=(32, 48))
        path = write_elyra_czi(tmp_path / "a.czi", frames, compression="jpegxr")
        image = _open(path)
        np.testing.assert_array_equal(_planes(image), _by_libczi(path, {"R": 3, "H": 3}))
        assert [w for w in image.header.warnings if "JPEG XR" in w]

    @pytest.mark.parametrize("options", ["zstd0:ExplicitLevel=2", "zstd1:PreProcess=HiLoByteUnpack"])
    def test_files_of_the_maker_s_library(self, tmp_path, options):
        frames = _frames(3, size=(20, 30))
        with libczi.create_czi(str(tmp_path / "a.czi"), compression_options=options) as document:
            for t, frame in enumerate(frames):
                document.write(frame, plane={"T": t, "C": 0, "Z": 0})
        image = _open(tmp_path / "a.czi")
        assert dict(image.header.axes) == {"T": 3}
        np.testing.assert_array_equal(_planes(image), frames)

    def test_levels_of_a_pyramid_are_left_out(self, tmp_path):
        frames = _frames(3)
        level = [Block({"T": t, "C": 0}, f[::2, ::2], size=f.shape) for t, f in enumerate(frames)]
        blocks = [*level, *(Block({"T": t, "C": 0}, f) for t, f in enumerate(frames))]
        np.testing.assert_array_equal(_planes(_open(write_czi(tmp_path / "a.czi", blocks))), frames)

    def test_an_opened_file_can_be_pickled_and_is_found_by_content(self, tmp_path):
        frames = _frames(2, 3, 3, 1, 1)
        path = write_elyra_czi(tmp_path / "raw.dat", frames)
        recording = pickle.loads(pickle.dumps(open_recording(path, readers=(CziReader(),))))
        np.testing.assert_array_equal(recording.read_plane(11), frames[1, 0, 2, 0, 0])


class TestAxes:
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(shape=st.tuples(*[st.integers(1, 3)] * 5), order=st.permutations("RZHC"), timed=st.booleans())
    def test_axes_follow_the_order_of_recording(self, tmp_path_factory, shape, order, timed):
        order = ["T", *order]
        frames = _frames(*shape, size=(2, 3))
        lengths = {a: shape[AXES.index(a)] for a in order}
        number = np.arange(frames[..., 0, 0].size, dtype=float).reshape(tuple(lengths.values()))
        times = np.transpose(number, [order.index(a) for a in AXES]) * 0.5
        path = tmp_path_factory.mktemp("czi") / "a.czi"
        write_elyra_czi(path, frames, order="".join(order), times_s=times if timed else None)
        image = _open(path)
        assert list(image.header.axes.items()) == [(a, n) for a, n in lengths.items() if n > 1]
        np.testing.assert_array_equal(_labelled(image), frames)
        if timed:
            np.testing.assert_allclose(image.header.plane_start_s, 0.5 * np.arange(number.size), atol=1e-6)

    def test_times_tell_the_order_where_the_file_is_sorted_otherwise(self, tmp_path):
        frames = _frames(2, 3, 5, 4, 1)
        order = "TZRH"  # recorded so, written by section
        number = np.arange(120.0).reshape([dict(zip(AXES, frames.shape, strict=False))[a] for a in order])
        times = np.transpose(number, [order.index(a) for a in "TRHZ"])[..., None]
        header = _open(write_elyra_czi(tmp_path / "a.czi", frames, order="ZTRHC", times_s=times)).header
        assert dict(header.axes) == {"T": 2, "Z": 4, "R": 3, "H": 5}
        np.testing.assert_allclose(header.plane_start_s, np.arange(120.0), atol=1e-6)

    def test_a_time_point_is_whole_where_nothing_tells_the_order(self, tmp_path):
        header = _open(write_elyra_czi(tmp_path / "a.czi", _frames(2, 3, 5, 4, 1), order="ZRHTC")).header
        assert list(header.axes) == ["T", "Z", "R", "H"]

    def test_indices_need_not_begin_at_zero(self, tmp_path):
        """A part of a recording, saved anew: the list may count from 0 where the subblocks do not."""
        frames = _frames(3)
        blocks = [Block({"T": 5 + t, "C": 2}, f, listed={"T": 5 + t - 5}) for t, f in enumerate(frames)]
        image = _open(write_czi(tmp_path / "a.czi", blocks))
        assert dict(image.header.axes) == {"T": 3}
        np.testing.assert_array_equal(_planes(image), frames)

    def test_the_i_of_zeiss_is_an_illumination(self, tmp_path):
        blocks = [Block({"I": i, "V": v}, f) for (i, v), f in zip(np.ndindex(2, 3), _frames(6), strict=True)]
        assert dict(_open(write_czi(tmp_path / "a.czi", blocks)).header.axes) == {"illumination": 2, "V": 3}


class TestScenes:
    @pytest.fixture
    def path(self, tmp_path):
        names = "<S><Scenes><Scene Index='0' Name='A1'/><Scene Index='1' Name='B7'/></Scenes></S>"
        scale = dict.fromkeys("XYZ", 0.1)
        xml = metadata_xml({"S": 2}, scale_um=scale, na=1.4, index=1.5, channels=[], inside=names)
        sizes = [(4, 6), (8, 5)]
        blocks = [Block({"S": s, "T": t}, _frames(size=sizes[s], seed=2 * s + t)) for s in (0, 1) for t in (0, 1)]
        return write_czi(tmp_path / "a.czi", blocks, xml=xml)

    @pytest.mark.parametrize("position", ["1", "B7"])
    def test_a_position_picks_a_scene(self, path, position):
        image = _open(path, position)
        assert dict(image.header.axes) == {"T": 2}
        np.testing.assert_array_equal(image.read_plane(1), _frames(size=(8, 5), seed=3))

    @pytest.mark.parametrize("position", [None, "2", "C1", "-1"])
    def test_else_the_scenes_are_listed(self, path, position):
        with pytest.raises(DataError, match="0: 'A1', 1: 'B7'"):
            _open(path, position)


class TestTimes:
    def test_start_and_exposure_of_every_plane(self, tmp_path):
        frames = _frames(2, 3, 3, 1, 1)
        times = np.sort(np.random.default_rng(3).uniform(0, 9, 18)).reshape(2, 3, 3, 1, 1)
        header = _open(write_elyra_czi(tmp_path / "a.czi", frames, times_s=times, exposure_s=0.005)).header
        np.testing.assert_allclose(header.plane_start_s, times.ravel() - times.min(), atol=2e-6)
        np.testing.assert_allclose(header.exposure_s, 0.005)

    def test_zones_are_honoured(self, tmp_path):
        texts = ["2024-03-31T00:59:59.5000000Z", "2024-03-31T03:00:00.2500000+02:00", "2024-03-31T01:00:01"]
        notes = [f"<METADATA><Tags><AcquisitionTime>{text}</AcquisitionTime></Tags></METADATA>" for text in texts]
        blocks = [Block({"T": t}, f, note=notes[t]) for t, f in enumerate(_frames(3))]
        header = _open(write_czi(tmp_path / "a.czi", blocks)).header
        np.testing.assert_allclose(header.plane_start_s, [0, 0.75, 1.5])
        assert header.exposure_s is None

    @pytest.mark.parametrize("fault", ["yesterday", "2024-13-01T00:00:00Z", "2024-05-17T09:30:00.0000000Z"])
    def test_a_time_missing_or_all_the_same_is_no_time(self, tmp_path, fault):
        notes = ["2024-05-17T09:30:00.0000000Z", "2024-05-17T09:30:00.0000000Z", fault]
        blocks = [
            Block({"T": t}, f, note=f"<METADATA><AcquisitionTime>{notes[t]}</AcquisitionTime></METADATA>")
            for t, f in enumerate(_frames(3))
        ]
        assert _open(write_czi(tmp_path / "a.czi", blocks)).header.plane_start_s is None

    def test_time_stamps_are_those_of_planes_where_a_time_point_is_one_plane(self, tmp_path):
        path = write_elyra_czi(tmp_path / "a.czi", _frames(3, 1, 1, 1, 2), stamps_s=[7.0, 7.5, 9.0], exposure_s=0.1)
        header = _open(path).header
        assert dict(header.axes) == {"T": 3, "C": 2}
        np.testing.assert_allclose(header.plane_start_s, [0, 0, 0.5, 0.5, 2, 2])
        np.testing.assert_allclose(header.exposure_s, 0.1)

    def test_time_stamps_of_whole_acquisitions_are_those_of_time_points(self, tmp_path):
        header = _open(write_elyra_czi(tmp_path / "a.czi", _frames(3, 3, 3, 1, 1), stamps_s=[7.0, 7.5, 9.0])).header
        assert header.plane_start_s is None
        np.testing.assert_allclose(header.time_point_s, [7.0, 7.5, 9.0])

    @pytest.mark.parametrize("stamps", [[1.0, 2.0], [1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0], [1.0, np.nan, 3.0]])
    def test_other_time_stamps_are_not_used(self, tmp_path, stamps):
        header = _open(write_elyra_czi(tmp_path / "a.czi", _frames(3, 1, 1, 1, 1), stamps_s=stamps)).header
        assert header.plane_start_s is None

    def test_offsets_in_the_metadata(self, tmp_path):
        offsets = "<T><Positions><List><Offsets>0 90.5 180</Offsets></List></Positions></T>"
        scale = dict.fromkeys("XYZ", 0.1)
        xml = metadata_xml({"T": 3}, scale_um=scale, na=1.4, index=1.5, channels=[], inside=offsets)
        blocks = [Block({"T": t}, f) for t, f in enumerate(_frames(3))]
        np.testing.assert_allclose(
            _open(write_czi(tmp_path / "a.czi", blocks, xml=xml)).header.plane_start_s, [0, 90.5, 180]
        )


class TestMetadata:
    def test_optics_and_scale(self, tmp_path):
        path = write_elyra_czi(tmp_path / "a.czi", _frames(1, 3, 3, 2, 2), exposure_s=0.02)
        header = _open(path).header
        assert header.optics == {"na": 1.4, "index": 1.518}
        assert header.pixel_um == pytest.approx((0.0645, 0.0645))
        assert header.z_step_um == pytest.approx(0.11)
        assert header.channels == ("SR-SIM 488", "SR-SIM 561")
        assert header.channel_optics == (
            {"emission_wavelength_um": 0.525, "excitation_wavelength_um": 0.488},
            {"emission_wavelength_um": 0.6, "excitation_wavelength_um": 0.561},
        )
        assert header.metadata["software"] == "AIM 2.3"
        assert header.metadata["channel_1_exposure_s"] == "0.02"
        assert header.warnings == ()

    def test_a_channel_of_several_keeps_its_name(self, tmp_path):
        scale = dict.fromkeys("XYZ", 0.1)
        channels = [("blue", 450.0, 405.0), ("green", 525.0, 488.0)]
        xml = metadata_xml({"C": 1}, scale_um=scale, na=1.4, index=1.5, channels=channels)
        header = _open(write_czi(tmp_path / "a.czi", [Block({"C": 1}, _frames())], xml=xml)).header
        assert header.channels == ("green",)
        assert header.channel_optics == ({"emission_wavelength_um": 0.525, "excitation_wavelength_um": 0.488},)

    @pytest.mark.parametrize("value", ["-3", "nan", "1e400", "0", "words", "4e30"])
    def test_absurd_values_are_not_believed(self, tmp_path, value):
        text = metadata_xml({}, scale_um=dict.fromkeys("XYZ", 0.1), na=1.4, index=1.5, channels=[("a", 500.0, 400.0)])
        for good in ("1.4<", "1.5<", "500.0<", "400.0<", "1e-07<", "<LensNA>0.3<"):
            assert good in text
            text = text.replace(good, good[: good.rindex(">") + 1] + value + "<" if ">" in good else value + "<")
        header = _open(write_czi(tmp_path / "a.czi", [Block({}, _frames())], xml=text)).header
        assert header.optics == {}
        assert header.channel_optics == ({},)
        assert header.pixel_um is None
        assert header.z_step_um is None

    def test_more_planes_told_of_than_there_are(self, tmp_path):
        xml = metadata_xml({"T": 9, "H": 5}, scale_um={}, na=1.4, index=1.5, channels=[])
        blocks = [Block({"T": t, "H": h}, _frames()) for t in range(2) for h in range(3)]
        warnings = _open(write_czi(tmp_path / "a.czi", blocks, xml=xml)).header.warnings
        assert warnings == (
            "the metadata tell of T = 9, the file holds 2",
            "the metadata tell of H = 5, the file holds 3",
        )

    @pytest.mark.parametrize(
        "xml",
        [
            '<!DOCTYPE a [<!ENTITY b "bbb">]><ImageDocument>&b;</ImageDocument>',
            '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a []><ImageDocument/>',
            "<ImageDocument><Metadata></ImageDocument>",
            "<ImageDocument",
            "no xml",
        ],
    )
    def test_xml_that_cannot_be_read(self, tmp_path, xml):
        with pytest.raises(DataError, match="the metadata"):
            _open(write_czi(tmp_path / "a.czi", [Block({}, _frames())], xml=xml))

    @pytest.mark.parametrize("xml", ["", "<ImageDocument/>", "\ufeff<ImageDocument><Metadata/></ImageDocument>\0\0"])
    def test_without_metadata_the_pixels_are_read(self, tmp_path, xml):
        image = _open(write_czi(tmp_path / "a.czi", [Block({}, _frames())], xml=xml))
        assert image.header.axes == {}
        np.testing.assert_array_equal(image.read_plane(0), _frames())


class TestMissingPlanes:
    def test_a_recording_that_was_broken_off(self, tmp_path):
        frames = _frames(5, 3, 3, 1, 2)
        missing = [key for key in np.ndindex(5, 3, 3, 1, 2) if key[0] == 4 and key[1:] > (1, 1, 0, 0)]
        times = np.arange(90.0).reshape(5, 3, 3, 1, 2)
        image = _open(write_elyra_czi(tmp_path / "a.czi", frames, missing=missing, times_s=times))
        np.testing.assert_array_equal(_labelled(image), frames[:4])
        np.testing.assert_allclose(image.header.plane_start_s, np.arange(72.0), atol=1e-6)
        (note,) = image.header.warnings
        assert "9 of 90 planes are missing (first: T = 4 R = 1 H = 1 C = 1" in note
        assert "of 5 time points the first 4 are whole and used, 9 planes of the others are left out" in note

    def test_a_hole_in_between_is_no_zeros_but_an_error(self, tmp_path):
        frames = _frames(3, 3, 3, 1, 1)
        path = write_elyra_czi(tmp_path / "a.czi", frames, missing=[(1, 2, 0, 0, 0), (0, 0, 1, 0, 0)])
        assert not _by_libczi(path, {"T": 3, "R": 3, "H": 3})[1, 2, 0].any()
        with pytest.raises(DataError, match=r"2 of 27 planes are missing \(T = 0 R = 0 H = 1; T = 1 R = 2 H = 0, "):
            _open(path)

    def test_a_whole_time_point_is_missing(self, tmp_path):
        path = write_elyra_czi(tmp_path / "a.czi", _frames(4, 1, 3, 1, 1), missing=[(1, 0, h, 0, 0) for h in range(3)])
        with pytest.raises(DataError, match="3 of 12 planes are missing"):
            _open(path)

    def test_only_the_first_channels_are_used_where_others_have_less(self, tmp_path):
        frames = _frames(2, 3, 3, 1, 3)
        missing = [key for key in np.ndindex(2, 3, 3, 1, 3) if key[4] == 2 and key[1:3] != (0, 0)]
        image = _open(write_elyra_czi(tmp_path / "a.czi", frames, missing=missing))
        np.testing.assert_array_equal(_labelled(image), frames[..., :2, :, :])
        assert "of 3 channels the first 2 are whole" in image.header.warnings[0]

    def test_a_later_channel_never_takes_the_number_of_an_earlier_one(self, tmp_path):
        path = write_elyra_czi(tmp_path / "a.czi", _frames(1, 3, 3, 1, 2), missing=[(0, 1, 1, 0, 0)])
        with pytest.raises(DataError, match="1 of 18 planes are missing"):
            _open(path)


class TestRefused:
    def _refused(self, tmp_path, blocks, match):
        with pytest.raises(DataError, match=match):
            _open(write_czi(tmp_path / "a.czi", blocks))

    def test_tiles_of_a_mosaic(self, tmp_path):
        self._refused(tmp_path, [Block({"T": 0, "M": m}, _frames()) for m in range(4)], "a mosaic of tiles")

    def test_a_single_tile_is_no_mosaic(self, tmp_path):
        path = write_czi(tmp_path / "a.czi", [Block({"T": t, "M": 0}, _frames()) for t in range(4)])
        assert dict(_open(path).header.axes) == {"T": 4}

    def test_planes_of_two_sizes(self, tmp_path):
        blocks = [Block({"C": c}, _frames(size=(4, 4 + c))) for c in range(2)]
        self._refused(tmp_path, blocks, r"planes differ \(4 x 4 Gray16, 4 x 5 Gray16\)")

    def test_planes_of_two_types(self, tmp_path):
        blocks = [Block({"C": 0}, _frames()), Block({"C": 1}, _frames(dtype=np.uint8))]
        self._refused(tmp_path, blocks, "planes differ")

    def test_only_levels_of_a_pyramid(self, tmp_path):
        self._refused(tmp_path, [Block({"T": 0}, _frames(), size=(20, 24))], "no plane of full size")

    def test_labels_that_contradict_each_other(self, tmp_path):
        blocks = [Block({"H": h}, f, listed={"H": 2 - h}) for h, f in enumerate(_frames(3))]
        self._refused(tmp_path, blocks, "labelled otherwise")

    @pytest.mark.parametrize(
        ("offset", "value", "match"),
        [(2, 3, "pixels are Bgr24"), (2, 77, "of type 77"), (18, 1, "compressed by JPEG"), (18, 1234, "method 1234")],
    )
    def test_colours_and_other_compressions(self, tmp_path, offset, value, match):
        path = write_czi(tmp_path / "a.czi", [Block({}, _frames())])
        data = bytearray(path.read_bytes())
        for at in (data.find(b"ZISRAWSUBBLOCK") + 48, data.find(b"ZISRAWDIRECTORY") + 160):
            struct.pack_into("<i", data, at + offset, value)
        path.write_bytes(data)
        with pytest.raises(DataError, match=match):
            _open(path)

    def test_a_part_of_a_set(self, tmp_path):
        data = bytearray(example(tmp_path).read_bytes())
        struct.pack_into("<i", data, 80, 1)
        (tmp_path / "a.czi").write_bytes(data)
        with pytest.raises(DataError, match="spread over several files"):
            _open(tmp_path / "a.czi")

    def test_a_list_that_was_never_written(self, tmp_path):
        data = bytearray(example(tmp_path).read_bytes())
        struct.pack_into("<q", data, 84, 0)
        (tmp_path / "a.czi").write_bytes(data)
        with pytest.raises(DataError, match="the recording was broken off"):
            _open(tmp_path / "a.czi")


@contextlib.contextmanager
def _bounded(seconds=2.0, peak_bytes=8 * 2**20):
    """Fails where reading takes long or much memory."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < seconds
    assert peak < peak_bytes


class TestDamaged:
    """A clear error or the right data, quickly and in little memory."""

    @pytest.fixture
    def small(self, tmp_path):
        frames = _frames(2, 1, 2, 1, 1, size=(3, 5))
        times = np.arange(4.0).reshape(2, 1, 2, 1, 1)
        return frames, write_elyra_czi(tmp_path / "small.czi", frames, times_s=times)

    def _read(self, path, data, frames):
        """Whether ``data`` are refused; else they are what ``frames`` begin with."""
        path.write_bytes(data)
        with _bounded():
            try:
                read = _labelled(_open(path))
            except DataError as error:
                refused = str(error)
            else:
                refused = ""
        if refused:
            assert refused.startswith(str(path))
            return True
        np.testing.assert_array_equal(read, frames[: read.shape[0]])
        return False

    def test_cut_anywhere(self, small):
        frames, path = small
        whole = path.read_bytes()
        refused = [self._read(path, whole[:n], frames) for n in range(0, len(whole), 13)]
        assert all(refused[: (len(whole) - 160) // 13])  # the last segment ends with padding

    def test_any_byte_but_those_of_pixels_changed(self, small):
        frames, path = small
        whole = path.read_bytes()
        image = _open(path)
        pixels = {p + i for p in image._places.tolist() for i in range(frames[0, 0, 0, 0, 0].nbytes)}
        rng, refused = np.random.default_rng(11), 0
        for at in range(0, len(whole), 7):
            if at not in pixels:
                data = bytearray(whole)
                data[at] ^= int(rng.integers(1, 256))
                refused += self._read(path, bytes(data), frames)
        assert refused > 50

    @pytest.mark.parametrize(
        ("width", "value"), [("<i", 0), ("<i", -1), ("<i", 2**31 - 1), ("<i", 2**20), ("<q", -(2**63)), ("<q", 2**40)]
    )
    def test_absurd_counts_and_places(self, small, width, value):
        frames, path = small
        whole = path.read_bytes()
        heads = {
            "ZISRAWFILE": range(32, 112, 4),
            "ZISRAWSUBBLOCK": range(32, 200, 4),
            "ZISRAWDIRECTORY": [32, *range(160, 330, 4)],
            "ZISRAWMETADATA": [32],
            "ZISRAWATTACH": [32, 288, 292],
            "ZISRAWATTDIR": [32, *range(288, 330, 4)],
        }
        for name, places in heads.items():
            for place in places:
                data = bytearray(whole)
                struct.pack_into(width, data, whole.find(name.encode()) + place, value)
                self._read(path, bytes(data), frames)

    @pytest.mark.parametrize("compression", ["zstd0", "zstd1", "zstd", "jpegxr"])
    def test_compressed_pixels(self, tmp_path, compression):
        """Changed bytes may decode to other pixels, as changed pixels do; never to another size."""
        frames = _frames(1, 1, 1, 1, 1, size=(32, 32))
        path = write_elyra_czi(tmp_path / "a.czi", frames, compression=compression)
        whole, image = path.read_bytes(), _open(path)
        first, count = int(image._places[0]), int(image._bytes[0])
        rng, refused = np.random.default_rng(4), 0
        for at in [*range(16), *rng.integers(16, count, 60).tolist()]:
            data = bytearray(whole)
            data[first + at] ^= int(rng.integers(1, 256))
            path.write_bytes(data)
            with _bounded():
                try:
                    assert image.read_plane(0).shape == (32, 32)
                except DataError:
                    refused += 1
        assert refused > 5

    def test_a_bomb_of_zeros(self, tmp_path):
        path = write_elyra_czi(tmp_path / "a.czi", _frames(1, 1, 1, 1, 1, size=(40, 40)), compression="zstd0")
        image = _open(path)
        bomb = imagecodecs.zstd_encode(bytes(2**28))[: int(image._bytes[0])]
        data = bytearray(path.read_bytes())
        data[int(image._places[0]) : int(image._places[0]) + len(bomb)] = bomb
        path.write_bytes(data)
        with _bounded(), pytest.raises(DataError, match="plane 0 cannot be decoded"):
            image.read_plane(0)

    def test_one_place_named_twice(self, small):
        _, path = small
        data = bytearray(path.read_bytes())
        first = data.find(b"ZISRAWDIRECTORY") + 160
        entry = 32 + 7 * 20
        struct.pack_into("<q", data, first + entry + 6, *struct.unpack_from("<q", data, first + 6))
        path.write_bytes(data)
        with pytest.raises(DataError, match="names one place twice"):
            _open(path)

    def test_two_planes_swapped_in_the_list(self, small):
        _, path = small
        data = bytearray(path.read_bytes())
        first = data.find(b"ZISRAWDIRECTORY") + 160
        a, b = first + 6, first + 6 + 32 + 7 * 20
        data[a : a + 8], data[b : b + 8] = data[b : b + 8], data[a : a + 8]
        path.write_bytes(data)
        with pytest.raises(DataError, match="labelled otherwise"):
            _open(path)

    def test_the_file_shrinks_after_it_was_opened(self, small):
        _, path = small
        image = _open(path)
        path.write_bytes(path.read_bytes()[:700])
        with pytest.raises(DataError, match="plane 3 ends after"):
            image.read_plane(3)
