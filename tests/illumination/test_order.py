"""The order of planes: the true one ranks first on real and simulated recordings, and weak evidence is called weak."""

import dataclasses
import itertools

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.illumination.evidence import CONVINCING, order_evidence
from nstm.illumination.order import (
    ACQUISITIONS_OF_STACKS,
    SECTIONS,
    SHORTLIST,
    TABLE_LINES,
    decided,
    rank_orders,
    ranking_table,
    verdict,
)

from .sim_frames import OPTICS, dots, lit_frames, load_case, read_mrc, vectors_at

AXES = ("t", "angle", "phase", "z")
PIXEL = OPTICS["pixel_um"]


def blurred(fine):
    """Camera image of a fine one (twice as many samples per side): objective, pixel, sampling."""
    pitch = PIXEL / 2
    fy, fx = (np.fft.fftfreq(n, pitch) for n in fine.shape)
    q = np.minimum(np.hypot(fy[:, None], fx) * OPTICS["emission_wavelength_um"] / (2 * OPTICS["na"]), 1)
    otf = 2 / np.pi * (np.arccos(q) - q * np.sqrt(1 - q * q)) * np.sinc(fy[:, None] * PIXEL) * np.sinc(fx * PIXEL)
    return np.fft.ifft2(np.fft.fft2(fine) * otf).real[::2, ::2]


def simulated(t=2, phases=3, z=1, photons=200.0, speed=0, side=96, seed=0):
    """Frames (t, angle, phase, z, y, x) of dots that move by ``speed`` half pixels from plane to plane, and vectors.

    Neighbouring sections share half of their dots; the order of recording is t z angle phase.
    """
    rng = np.random.default_rng([seed, t, phases, z])
    length, modulation = (2.3, (0.7, 0.6)) if phases >= 5 else (4.4, (0.8,))
    vectors = vectors_at(length, rng.uniform(0, np.pi) + np.pi / 3 * np.arange(3) + rng.normal(0, 0.02, 3))
    start, heading = rng.uniform(-3, 3, 3), rng.choice([-1, 1], 2)
    layers = [dots((side, side), side * side // 25, rng) for _ in range(z + 1)]
    y, x = np.mgrid[: 2 * side, : 2 * side] * PIXEL / 2
    clean = np.zeros((t, 3, phases, z, side, side))
    for i, (time, section, angle, phase) in enumerate(itertools.product(range(t), range(z), range(3), range(phases))):
        moved = np.roll(layers[section] + layers[section + 1], heading * (i * speed), axis=(0, 1))
        k = vectors[angle]
        wave = 2 * np.pi * (k[0] * y + k[1] * x + phase / phases) + start[angle]
        pattern = 1 + sum(m * np.cos(o * wave) for o, m in enumerate(modulation, 1))
        clean[time, angle, phase, section] = blurred(moved * pattern)
    clean *= photons / np.quantile(clean.mean((1, 2)), 0.999)
    return rng.poisson(np.maximum(clean, 0)).astype(np.float32), vectors


def in_file(frames, order):
    """Planes of ``frames`` (t, angle, phase, z, y, x) in the order of a file, ``order`` slowest first."""
    names = [*(n for n in AXES if n not in order.split()), *order.split()]
    return np.transpose(frames, [*(AXES.index(n) for n in names), 4, 5]).reshape(-1, *frames.shape[-2:])


def ranked(planes, angles=3, phases=3, z=1, **options):
    return rank_orders(lambda i: planes[i], len(planes), {"angle": angles, "phase": phases}, z, **options)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("ER_1", "t angle phase"),
        ("ER_1", "angle t phase"),
        ("ER_1", "angle phase t"),
        ("ER_2", "t angle phase"),
        ("ER_2", "t phase angle"),
        ("ER_2", "phase t angle"),
    ],
)
def test_a_real_time_lapse_in_every_order(shared_data, name, order):
    raw = tifffile.imread(shared_data / "sim" / "er_timelapse_tirf" / f"{name}.tif")
    found = ranked(in_file(raw.reshape(3, 3, 3, 1, *raw.shape[-2:]), order), offset=100)
    assert found[0].order == order
    assert decided(found)
    assert found[0].evidence.words == CONVINCING


def test_a_real_three_beam_acquisition(shared_data):
    raw = tifffile.imread(shared_data / "sim" / "microtubules_3beam_15frames" / "raw_15x128x128.tif")
    found = ranked(raw, phases=5)
    assert (found[0].order, decided(found)) == ("angle phase", True)
    known = np.array([(0.0293, 0.1182), (-0.0879, 0.0859), (0.1162, 0.0322)])
    np.testing.assert_allclose(found[0].evidence.vectors, known, atol=0.004)


def test_real_dim_data_are_not_taken_for_another_order(shared_data):
    raw = read_mrc(shared_data / "sim" / "microtubules_dv" / "MT.mrc")
    right = ranked(raw.reshape(9, 256, 256))
    turned = ranked(raw.swapaxes(0, 1).reshape(9, 256, 256))
    assert (right[0].order, turned[0].order) == ("angle phase", "phase angle")


def test_omx_test_data_hold_orientations_slowest(shared_data):
    raw = tifffile.imread(shared_data / "sim" / "omx_3d" / "raw.tif").reshape(-1, 64, 64)
    found = ranked(raw, phases=5, z=9)
    assert (found[0].order, decided(found)) == ("angle z phase", True)
    # orientations and the line spacing of the finest pattern as stated with the data, in the same sequence
    k = np.array(found[0].evidence.vectors)
    turn = np.angle(np.exp(1j * (np.arctan2(k[:, 0], k[:, 1]) - [0.8043, 1.8555, -0.2388])))
    assert np.abs(np.sin(turn)).max() < 0.06
    np.testing.assert_allclose(np.hypot(*k.T), 0.08 / (2 * 0.2035), rtol=0.04)


@pytest.mark.parametrize("name", ["b2_256_mid", "b2_256p40_mid", "b3_256_mid"])
def test_simulated_single_planes(shared_cases, name):
    frames = load_case(shared_cases, name)[0]
    for order, labelled in (("angle phase", frames), ("phase angle", frames.swapaxes(0, 1))):
        found = ranked(labelled.reshape(-1, *frames.shape[-2:]), phases=frames.shape[1])
        assert (found[0].order, decided(found)) == (order, True)


def test_a_simulated_stack_with_light_from_out_of_focus(shared_cases):
    raw = tifffile.imread(shared_cases / "sim" / "v3_256x12_mid_raw.tif").reshape(12, 3, 5, 1, 256, 256)
    frames = np.moveaxis(raw, 0, 3).reshape(1, 3, 5, 12, 256, 256)
    for order in ("z angle phase", "angle phase z"):
        found = ranked(in_file(frames, order), phases=5, z=12, offset=100)
        assert (found[0].order, decided(found)) == (order, True)


def test_a_stack_too_noisy_to_decide_is_called_undecided(shared_cases):
    raw = tifffile.imread(shared_cases / "sim" / "v3_128x16_mid_raw.tif").reshape(-1, 128, 128)
    found = ranked(raw, phases=5, z=16, offset=100)
    assert found[0].order == "z angle phase"
    assert not decided(found)
    assert verdict(found).startswith("undecided: the evidence is weak")


@pytest.mark.parametrize("order", [*map(" ".join, itertools.permutations(("t", "angle", "phase")))])
@pytest.mark.parametrize(("photons", "speed"), [(1000, 0), (200, 1), (200, 2), (60, 0), (60, 1)])
def test_all_orders_of_still_and_moving_samples(order, photons, speed):
    frames, _ = simulated(t=3, photons=photons, speed=speed, seed=photons + speed)
    found = ranked(in_file(frames, order))
    assert (found[0].order, decided(found)) == (order, True)


def test_phases_that_a_wrong_order_takes_in_double_steps_do_not_count():
    # 3 times x 5 phases: taken as 'phase t angle' the phases come as 0 3 1 4 2, a pattern of double steps
    frames, _ = simulated(t=3, phases=5, seed=1)
    found = ranked(in_file(frames, "t phase angle"), phases=5)
    assert (found[0].order, decided(found)) == ("t phase angle", True)


@pytest.mark.parametrize("order", ["t angle z phase", "t z phase angle", "angle t z phase", "z angle phase t"])
def test_orders_of_a_time_lapse_of_stacks(order):
    frames, _ = simulated(t=2, phases=5, z=4, speed=1, side=64)
    found = ranked(in_file(frames, order), phases=5, z=4)
    names = {found[0].order, *found[0].same_as}
    assert order in names
    if len(names) == 1:
        assert decided(found)
    else:  # times and sections side by side
        assert not decided(found)
        assert all(repr(name) in verdict(found) for name in names)
    assert found[0].score > 3 * found[1].score


@pytest.mark.parametrize("z", [4, 6])
def test_phases_gathered_across_sections_are_not_taken_for_an_orientation(z):
    # with one section more or less than phases, 'angle phase z' gathers phases that step evenly, of different sections
    frames, _ = simulated(t=1, phases=5, z=z, seed=z)
    right = order_evidence(frames[0, :, :, 1:3])
    mixed = order_evidence(in_file(frames, "angle z phase").reshape(3, 5, z, 96, 96)[:, :, 1:3])
    assert right.shared > 0.35
    assert mixed.shared < 0.2
    assert mixed.score < 0.5 * right.score


def test_times_and_sections_that_no_pattern_tells_apart_stand_together():
    frames, _ = simulated(t=2, z=3, side=64)
    found = ranked(in_file(frames, "t z angle phase"), z=3)
    assert (found[0].order, found[0].same_as) == ("t z angle phase", ("z t angle phase",))
    names = [name for c in found for name in (c.order, *c.same_as)]
    assert sorted(names) == sorted(map(" ".join, itertools.permutations(("t", "z", "angle", "phase"))))


@pytest.mark.parametrize("angles", [1, 3])
@pytest.mark.parametrize("seed", range(8))
def test_a_moving_sample_without_a_pattern_decides_nothing(seed, angles):
    rng = np.random.default_rng(seed)
    phases = (3, 5)[seed % 2]
    scene, nothing = dots((96, 96), 400, rng), np.zeros((1, 2))
    planes = [
        lit_frames(np.roll(scene, i * (seed // 2), axis=1), nothing, [[0.0]], [[0.0]], rng, photons=300)[0, 0]
        for i in range(6 * phases)
    ]
    found = ranked(np.array(planes), angles=angles, phases=phases)
    assert not decided(found)
    assert verdict(found).startswith("undecided")


def test_planes_are_read_once_and_few_of_them():
    planes, read = np.random.default_rng(0).poisson(50, (40, 64, 64)), []

    def read_plane(number):
        read.append(number)
        return planes[number % 40]

    found = rank_orders(read_plane, 10 * 15 * 20, {"angle": 3, "phase": 5}, 20)
    assert len(found) == 18  # 24 less six where t and z stand side by side
    assert len(read) == len(set(read))
    assert len(read) <= 15 * (len(found) + SHORTLIST * SECTIONS * ACQUISITIONS_OF_STACKS)


def test_an_incomplete_acquisition_leaves_time_slowest():
    frames, _ = simulated(t=3)
    found = ranked(in_file(frames, "t angle phase")[:-4])
    assert {c.order.split()[0] for c in found} == {"t"}
    assert found[0].order == "t angle phase"
    with pytest.raises(DataError, match="8 planes in the file, but one acquisition has 9"):
        ranked(in_file(frames, "t angle phase")[:8])


def test_the_table_is_short_and_ends_with_the_verdict():
    frames, _ = simulated(t=2, phases=5, z=4, side=64)
    found = ranked(in_file(frames, "t angle z phase"), phases=5, z=4)
    lines = ranking_table(found).splitlines()
    assert len(lines) == TABLE_LINES
    assert lines[1].startswith("t angle z phase ")
    assert lines[-2:] == [f"({len(found) - TABLE_LINES + 3} more)", "the frames speak for 't angle z phase'"]
    assert max(map(len, lines)) <= 120
    starts = {line.index(c.evidence.words) for line, c in zip(lines[1:-2], found, strict=False)}
    assert starts == {lines[0].index("evidence")}


def test_the_verdict_names_what_competes_and_what_is_odd():
    frames, _ = simulated()
    best, *others = ranked(in_file(frames, "t angle phase"))
    rival = dataclasses.replace(others[0], evidence=dataclasses.replace(best.evidence, score=0.6 * best.score))
    assert verdict([best, rival]) == f"undecided between 't angle phase', {rival.order!r}"
    assert not decided([best, rival])
    odd = dataclasses.replace(best, evidence=dataclasses.replace(best.evidence, evenness=0.8))
    assert "but phases do not step evenly: check the numbers" in verdict([odd, *others])


def test_the_numbers_of_the_right_and_of_a_wrong_label():
    frames, vectors = simulated(t=2, photons=1000)
    right = np.moveaxis(frames[:, :, :, 0], 0, 2)
    good = order_evidence(right)
    found = np.array(good.vectors)
    sign = np.sign(np.sum(found * vectors, axis=1, keepdims=True))
    np.testing.assert_allclose(sign * found, vectors * PIXEL, atol=0.6 / 96)
    assert (good.distinct, good.constant) == (3, 1.0)
    assert good.phase_error_deg < 5
    assert good.evenness > 0.97
    np.testing.assert_array_equal(order_evidence(right, passband=0.36).vectors, good.vectors)
    swapped = order_evidence(right.swapaxes(0, 1))
    assert swapped.evenness < 0.7
    assert swapped.phase_error_deg > 20
    assert swapped.score < 0.1 * good.score
    one_orientation = order_evidence(np.stack([right[0]] * 3))
    assert (one_orientation.distinct, one_orientation.score) == (0, 0.0)


def test_orientations_of_different_brightness_and_bleaching():
    frames, _ = simulated(t=1, photons=2000, side=128)
    frames = frames[0] * np.array([1.0, 1.4, 0.7], np.float32)[:, None, None, None, None]
    steps = order_evidence(frames)
    mixed = order_evidence(frames.swapaxes(0, 1))
    assert steps.scatter < 0.05 < 0.2 < mixed.scatter
    assert mixed.step < 0.05 < 0.2 < steps.step
    number = np.arange(9).reshape(3, 3, 1)
    bleached = frames * np.exp(-0.1 * number[..., None, None], dtype=np.float32)
    assert order_evidence(bleached).scatter > 2 * steps.scatter
    assert order_evidence(bleached, recorded=number).scatter == pytest.approx(steps.scatter, rel=0.3)


def test_the_unit_of_the_counts_does_not_matter():
    frames, _ = simulated(t=1)
    once, scaled = (order_evidence(frames[0] * np.float32(factor)).score for factor in (1, 1e-20))
    assert scaled == pytest.approx(once, rel=1e-3)
    assert order_evidence(frames[0] * np.float32(1e25)).score == pytest.approx(once, rel=1e-3)


def test_dark_frames_are_no_evidence_and_no_error():
    assert order_evidence(np.full((3, 3, 1, 64, 64), 100), offset=100).score == 0


@pytest.mark.parametrize(
    ("shape", "fill", "words"),
    [
        ((3, 3, 1, 64, 64), np.nan, "NaN or infinity"),
        ((3, 3, 1, 64, 16), 1, "planes of 64 x 16 pixels tell nothing"),
        ((3, 2, 1, 64, 64), 1, "3 phases or more"),
        ((3, 3, 64, 64), 1, r"expected \(angle, phase, repeat, y, x\)"),
    ],
)
def test_frames_that_cannot_be_judged_are_refused(shape, fill, words):
    with pytest.raises(DataError, match=words):
        order_evidence(np.full(shape, fill, np.float32))
