"""Damaged files of every family: a clear message or right data, no crash, no hang, no store that is not whole."""

import os
from dataclasses import replace

import numpy as np
import pytest

from tests.files import tiff
from tests.files.damage import FAMILIES, KINDS, Family, damaged, judge, read_original, verdicts

SOAK = int(os.environ.get("NSTM_SOAK", "60"))


@pytest.mark.parametrize("name", FAMILIES)
def test_damaged_files_are_refused_or_read_right(name, tmp_path):
    assert list(verdicts(FAMILIES[name], range(10), tmp_path)) == []


@pytest.mark.soak
@pytest.mark.parametrize("name", FAMILIES)
def test_many_damaged_files_are_refused_or_read_right(name, tmp_path):
    assert list(verdicts(FAMILIES[name], range(1000, 1000 + SOAK), tmp_path)) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_of_every_example_it_is_known_where_its_planes_lie_and_each_kind_of_damage_changes_it(name, tmp_path):
    original = read_original(FAMILIES[name].example(tmp_path))
    assert len(original.planes) >= 9
    assert len({plane.tobytes() for plane in original.planes}) == len(original.planes)
    for seed in range(2 * len(KINDS)):
        content, what = damaged(original, seed)
        assert content != original.content
        assert (content, what) == damaged(original, seed)


@pytest.fixture
def whole(tmp_path):
    """An example of a family without checksums, and a folder of its own to judge it in."""
    family = FAMILIES["imagej"]
    (tmp_path / "here").mkdir()
    path = family.example(tmp_path)
    original = read_original(path)
    return family, path.rename(tmp_path / "here" / path.name), original


def test_a_whole_file_is_right_and_another_plane_is_not(whole):
    family, path, original = whole
    assert judge(path, original, family, path.parent) is None
    planes = [*original.planes[:4], original.planes[4] + 1, *original.planes[5:]]
    assert "plane 4 is not what it was" in judge(path, replace(original, planes=planes), family, path.parent)
    changed = bytearray(original.content)
    changed[original.stored[4][0][0]] ^= 1
    path.write_bytes(changed)
    assert judge(path, original, family, path.parent) is None  # its own bytes were touched


def test_missing_planes_must_be_told(whole):
    family, path, original = whole
    more = [*original.planes, np.zeros_like(original.planes[0])]
    longer = replace(original, planes=more, stored=[*original.stored, ((0, 1),)])
    assert "18 instead of 19 planes without a word" in judge(path, longer, family, path.parent)


def test_what_is_left_behind_is_found(whole):
    family, path, original = whole
    (path.parent / "rest.tmp").write_bytes(b"")
    assert "left behind" in judge(path, original, family, path.parent)


def test_a_crash_and_a_hang_are_told_with_the_seed(tmp_path):
    assert list(verdicts(Family("tests.files.damage:crash"), [3], tmp_path)) == [
        "seed 3 (the example): the interpreter died with exit code -11"
    ]
    assert list(verdicts(Family("tests.files.damage:forever"), [5], tmp_path, seconds=0.5)) == [
        "seed 5 (the example): no answer within 0.5 s"
    ]


def test_exceptions_that_are_no_data_errors_are_told(tmp_path, monkeypatch, whole):
    family, path, original = whole
    monkeypatch.setattr("nstm.io.tiff_planes.TiffImage.read_plane", lambda self, index: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        judge(path, original, family, path.parent)


def test_the_examples_of_tiff_hold_the_same_planes(tmp_path):
    for builder in (tiff.example, tiff.bigtiff, tiff.imagej, tiff.ome, tiff.micro_manager):
        np.testing.assert_array_equal(read_original(builder(tmp_path)).planes, tiff.planes())
