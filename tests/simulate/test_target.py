"""The resolution target: sizes of the standard, exact areas, emitters."""

import numpy as np
import pytest

from nstm.simulate.target import bar_width_um, usaf_target

TARGET = usaf_target(7, 3, (40.0, 30.0))


def grid(step, size=120.0):
    axis = np.arange(-size / 2, size / 2, step) + step / 2
    return np.stack(np.meshgrid(axis + 40, axis + 30, indexing="ij"), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize(("group", "element", "width"), [(0, 1, 500.0), (1, 3, 198.4), (7, 6, 2.192), (9, 3, 0.775)])
def test_bar_widths_of_the_standard(group, element, width):
    """MIL-STD-150A tabulates the widths of the bars."""
    assert bar_width_um(group, element) == pytest.approx(width, rel=1e-3)


def test_every_element_has_three_bars_each_way_five_times_as_long_as_wide():
    for group in (7, 8, 9):
        for element in range(1, 7):
            boxes = TARGET.boxes[np.all(TARGET.labels == [group, element], axis=1)]
            sides = (boxes[:, 2:] - boxes[:, :2]) / bar_width_um(group, element)
            np.testing.assert_allclose(sides[:3], [[1, 5]] * 3)
            np.testing.assert_allclose(sides[3:], [[5, 1]] * 3)
            np.testing.assert_allclose(np.diff(boxes[:3, 0]), 2 * bar_width_um(group, element))
            np.testing.assert_allclose(np.diff(boxes[3:, 1]), 2 * bar_width_um(group, element))


def test_bars_do_not_overlap_and_stand_around_the_centre():
    boxes = TARGET.boxes
    np.testing.assert_allclose((boxes[:, :2].min(axis=0) + boxes[:, 2:].max(axis=0)) / 2, [40, 30])
    for i, (y0, x0, y1, x1) in enumerate(boxes):
        rest = np.delete(boxes, i, axis=0)
        apart = (rest[:, 0] >= y1) | (rest[:, 2] <= y0) | (rest[:, 1] >= x1) | (rest[:, 3] <= x0)
        assert apart.all()


@pytest.mark.parametrize("cell", [0.5, 1.3])
def test_the_coverage_of_cells_is_exact(cell):
    share = TARGET.coverage(grid(cell), cell)
    assert share.max() <= 1 + 1e-9
    assert share.sum() * cell**2 == pytest.approx(TARGET.area_um2, rel=1e-9)


def test_a_line_across_the_bars_has_their_period():
    group, element = 8, 2
    boxes = TARGET.boxes[np.all(TARGET.labels == [group, element], axis=1)]
    middle = boxes[3:, [1, 3]].mean(axis=1)
    y = boxes[3:, [0, 2]].mean()
    gaps = (middle[1:] + middle[:-1]) / 2
    at = np.stack([np.full(5, y), np.sort(np.r_[middle, gaps])], axis=1)
    np.testing.assert_allclose(TARGET.coverage(at, 0.5 * bar_width_um(group, element)), [1, 0, 1, 0, 1])


def test_emitters_fill_the_bars():
    points = TARGET.points(0.2)
    assert points.weight.sum() == pytest.approx(TARGET.area_um2)
    np.testing.assert_allclose(TARGET.coverage(points.position, 1e-6), 1)
    assert points.weight.max() <= 0.2**2
