"""Motions of stated amounts, and the studies' recordings."""

import numpy as np
import pytest

from nstm.simulate.dpc import DpcMicroscope
from nstm.simulate.motion import largest_travel
from nstm.simulate.sim import SimMicroscope
from nstm.simulate.studies import MOTIONS, STUDIES, Field, StudyCase, record_case, target_of_field
from nstm.simulate.volume import VolumeMicroscope

MICROSCOPES = {"dpc": DpcMicroscope(shape=(64, 64)), "sim": SimMicroscope(shape=(48, 48), sub_exposures=2)}
FIELDS = [Field.of(MICROSCOPES["sim"], 3), Field.of(VolumeMicroscope(planes=6), 3)]


def places(field):
    axes = np.meshgrid(*(np.linspace(0, side, 12) for side in field.size_um), indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, len(axes))


@pytest.mark.parametrize("field", FIELDS, ids=["plane", "stack"])
@pytest.mark.parametrize("name", ["translation", "opposed", "deformation", "flow"])
def test_amounts_in_pixels_are_what_the_farthest_point_travels(field, name):
    motion = MOTIONS[name](field, 5.0)
    travel = largest_travel(motion, places(field), [(0.0, field.duration_s)], samples=17)[0] / field.pixel_um
    assert travel == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("seed", [102, 103])
def test_the_amount_of_small_eddies_is_met_between_the_places_looked_at_in_large_fields(seed):
    field = Field.of(SimMicroscope(shape=(256, 200)), seed)
    rng = np.random.default_rng(0)
    points = rng.uniform((0, 0), field.size_um, (20000, 2))
    travel = largest_travel(MOTIONS["eddies"](field, 5.0), points, [(0.0, field.duration_s)], samples=17)[0]
    assert travel / field.pixel_um == pytest.approx(5.0, rel=0.05)


def test_amounts_of_rotation_shear_swirl_and_vibration():
    field = FIELDS[0]
    y, x = field.centre_um
    at, end = np.array([[y + 1.0, x]]), field.duration_s
    turned = MOTIONS["rotation"](field, 20.0).displacement(at, end)[0]
    assert np.hypot(*turned) == pytest.approx(2 * np.sin(np.deg2rad(10)))
    np.testing.assert_allclose(MOTIONS["shear"](field, 0.3).displacement(at, end), [[0, 0.3]], atol=1e-12)
    near = np.array([[y + 1e-3, x]])
    assert np.hypot(*MOTIONS["swirl"](field, 1.2).displacement(near, end)[0]) == pytest.approx(
        2e-3 * np.sin(0.6), rel=1e-3
    )
    swing = [MOTIONS["vibration"](field, 2.0).displacement(at, t)[0] for t in np.linspace(0, end, 200)]
    assert np.hypot(*np.array(swing).T).max() == pytest.approx(2 * field.pixel_um, rel=1e-3)


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize("field", FIELDS, ids=["plane", "stack"])
def test_the_true_motion_is_known_everywhere(field, name):
    amount = {"rotation": 20.0, "shear": 0.3, "swirl": 1.2}.get(name, 4.0)
    motion = MOTIONS[name](field, amount)
    rest, end = places(field), field.duration_s
    now, before = motion.positions(rest, end), motion.positions(rest, 0.4 * end)
    found = motion.material_displacement(now, 0.4 * end, end)
    np.testing.assert_allclose(found, now - before, atol=1e-2 * field.pixel_um)


@pytest.mark.parametrize("side", [64, 128, 256])
def test_the_target_fills_the_field(side):
    target = target_of_field(Field.of(DpcMicroscope(shape=(side, side))))
    extent = np.ptp(target.boxes[:, [0, 2]]) / (side * 0.454)
    assert 0.5 * 0.95 < extent <= 0.95


def test_the_studies_name_known_motions():
    assert set(STUDIES) == {"motion", "magnitude", "vibration", "noise", "rows"}
    for name, cases in STUDIES.items():
        assert {case.system for case in cases} == ({"diffusercam"} if name == "rows" else {"dpc", "sim"})
        assert {case.motion for case in cases} <= {*MOTIONS, *(["swing"] if name == "rows" else [])}


@pytest.mark.parametrize(("system", "photons"), [("dpc", 2500.0), ("sim", 100.0)])
def test_a_target_is_recorded(system, photons):
    recording = record_case(StudyCase(system, "swirl", 0.6, photons), MICROSCOPES[system])
    field, target = Field.of(MICROSCOPES[system]), target_of_field(Field.of(MICROSCOPES[system]))
    assert recording.microscope.photons == photons
    at_start = recording.motion.rest_positions(recording.places(), float(recording.truth_times[0]))
    expected = target.coverage(at_start, recording.spacing_um[0])
    image = recording.truth[0, 1] if system == "dpc" else recording.truth[0]
    assert np.corrcoef(image.ravel(), expected)[0, 1] > 0.95
    moved = recording.material_displacement(*recording.truth_times[[0, -1]])
    assert np.linalg.norm(moved, axis=0).max() == pytest.approx(0.6 * 0.2 * field.side_um * 0.4289, rel=0.05)


def test_a_microscope_of_another_system_is_refused():
    with pytest.raises(ValueError, match="dpc"):
        record_case(StudyCase("dpc", "static", 0.0), MICROSCOPES["sim"])
