"""Text, scale bars, ranges and arrangement."""

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from nstm.acquisition import COLOURS
from nstm.visual.colour import EMPTY, direction_colours, hue_circle, lookup, time_colours
from nstm.visual.panels import arrange, empty_panel, intensity_range, picture_of, plane, shown_volumes, to_rgb
from nstm.visual.text import draw_scale_bar, fitted, font, length_label, one_line, round_length_um, time_labels, wrapped


def series(values: np.ndarray) -> xr.DataArray:
    coords = {"t": np.arange(values.shape[0]) * 0.1}
    return xr.DataArray(values.astype(np.float32), dims=("t", "c", "z", "y", "x"), coords=coords)


@pytest.mark.parametrize(
    ("field", "bar"), [(10, 2), (7.7, 2), (33, 5), (1.3, 0.2), (0.4, 0.1), (800, 200), (2500, 500)]
)
def test_round_lengths(field, bar):
    assert round_length_um(field) == pytest.approx(bar)


@pytest.mark.parametrize("field", np.geomspace(0.01, 1e4, 40))
def test_bar_is_about_a_fifth(field):
    assert 0.12 < round_length_um(float(field)) / field < 0.33


@pytest.mark.parametrize("field", [0.0, -1.0, float("nan"), float("inf")])
def test_no_bar_without_a_field(field):
    with pytest.raises(ValueError, match="must be positive"):
        round_length_um(field)


def test_length_labels():
    assert [length_label(v) for v in (2.0, 0.5, 1.0, 100.0, 0.02)] == ["2 µm", "500 nm", "1 µm", "100 µm", "20 nm"]


def test_scale_bar_has_the_stated_length():
    picture = Image.new("RGB", (400, 300))
    draw_scale_bar(picture, 0.025, 16)  # a field of 10 um, so a bar of 2 um = 80 px
    bar = np.all(np.asarray(picture) == 255, axis=2).sum(axis=1).max()
    assert bar == 80


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0.0, 0.5, 1.0], ["0.00 s", "0.50 s", "1.00 s"]),
        ([0.007, 0.028], ["7 ms", "28 ms"]),
        ([0.0, 0.0333, 0.0667], ["0 ms", "33 ms", "67 ms"]),
        ([0.0, 0.0025], ["0.0 ms", "2.5 ms"]),
        ([3.0, 63.0], ["3 s", "63 s"]),
        ([-1e-12, 2.0], ["0.0 s", "2.0 s"]),
        ([], []),
    ],
)
def test_time_labels(times, expected):
    assert time_labels(times) == expected


def test_time_labels_of_one_and_of_equal_times():
    assert time_labels([2.0]) == ["2.00 s"]
    assert len(set(time_labels([1.0, 1.0]))) == 1


def test_hostile_text_stays_on_one_line_and_inside():
    text = one_line("a\nb\x00c\u202ed\tend" + "x" * 500)
    assert text.startswith("a b c d end")
    assert len(text) == 200
    face = font(14)
    assert face.getlength(fitted("W" * 300, face, 90)) <= 90
    assert fitted("W", face, 0.5) == ""
    assert all(face.getlength(line) <= 90 for line in wrapped("word " * 50 + "W" * 60, face, 90, 3))


def test_range_is_one_for_all_times_and_ignores_what_is_missing():
    values = np.zeros((3, 1, 1, 10, 10))
    values[0], values[1], values[2] = 1.0, np.nan, 5.0
    values[2, 0, 0, 0, 0] = np.inf
    assert intensity_range(series(values), 0.0) == (1.0, 5.0)
    assert intensity_range(series(np.full((2, 1, 1, 4, 4), np.nan))) == (0.0, 1.0)
    low, high = intensity_range(series(np.full((2, 1, 1, 4, 4), 7.0)))
    assert low == 7.0
    assert high > low


def test_volume_is_projected():
    values = np.full((1, 1, 3, 2, 2), np.nan)
    values[0, 0, 1, 0, 0], values[0, 0, 2, 0, 0] = 4.0, 9.0
    image = plane(series(values), 0)
    assert image[0, 0] == 9.0
    assert np.isnan(image[1, 1])


def test_pictures():
    image = np.array([[0.0, 1.0], [0.5, np.nan]], dtype=np.float32)
    rgb = np.asarray(to_rgb(image, (0.0, 1.0), (8, 8)))
    assert rgb.shape == (8, 8, 3)
    assert rgb[0, 0].tolist() == [0, 0, 0]
    assert rgb[0, 7].tolist() == [255, 255, 255]
    assert rgb[7, 7].tolist() == list(EMPTY)
    assert np.asarray(to_rgb(image, (0.0, 1.0), (7, 5))).shape == (5, 7, 3)
    assert np.asarray(to_rgb(np.full((3, 3), np.nan), (0, 1), (6, 6))).reshape(-1, 3).max(0).tolist() == list(EMPTY)


def test_empty_panel_says_something():
    rgb = np.asarray(empty_panel((300, 200), "the <window> reaches\nbeyond", 14))
    assert (rgb > 200).any()
    assert rgb[0, 0].tolist() == list(EMPTY)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("aspect", [0.2, 0.97, 1.0, 1.33, 4.57, 20.0])
@pytest.mark.parametrize("height", [64, 481, 2160])
def test_arrangement_fits(count, aspect, height):
    layout = arrange(count, aspect, height, footnotes=True)
    width, tall = layout.size
    assert width % 2 == tall % 2 == 0
    assert width <= 3840
    assert tall <= 2160
    assert layout.columns * layout.rows >= count
    for i in range(count):
        x, y = layout.corner(i)
        assert x + layout.picture[0] <= width
        assert y + layout.picture[1] + layout.note <= tall


def test_square_fields_stand_side_by_side_and_wide_ones_below_each_other():
    assert arrange(3, 1.0, 480).columns == 3
    assert arrange(4, 1.0, 480).columns == 4
    assert arrange(3, 512 / 112, 480).columns == 1


def test_colours():
    assert np.allclose(time_colours(3).sum(0), 1)
    assert np.allclose(time_colours(12).sum(0), 1)
    light = hue_circle(np.linspace(0, 6.28, 60)) @ [0.2126, 0.7152, 0.0722]
    assert light.max() / light.min() < 1.6  # equally light to the eye is not equal luminance, but near
    towards = direction_colours(np.array([[0.0, 1.0], [0.0, 5.0], [0.0, -1.0]]))
    assert np.allclose(towards[0], towards[1])
    assert np.abs(towards[0] - towards[2]).max() > 0.2
    assert lookup().shape == (256, 3)


def test_colours_are_shown_together():
    values = np.zeros((2, 3, 1, 2, 2))
    values[1, :, 0] = [[[1, 0], [0, 1]], [[0, 1], [0, 1]], [[0, 0], [1, 1]]]  # red, green, blue and white
    images = series(values)
    images = images.assign_coords(c=[c.name for c in COLOURS])
    images.attrs["channel_about"] = [{"colour": c.colour} for c in COLOURS]
    limits = intensity_range(images, 0)
    assert limits == (0, 1)
    shown = np.asarray(to_rgb(picture_of(shown_volumes(images, 1)), limits, (2, 2)))
    assert shown.tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]]
    np.testing.assert_allclose(plane(images, 1), [[1 / 3, 1 / 3], [1 / 3, 1]], rtol=1e-6)
    images.values[1, 1, 0, 0, 0] = np.nan
    hole = np.asarray(to_rgb(picture_of(shown_volumes(images, 1)), limits, (2, 2)))[0, 0]
    assert tuple(hole) == EMPTY
