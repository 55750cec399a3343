"""The solvers on a phantom: who gets where, the bound below all, when they stop, and what they are told."""

import numpy as np
import pytest

from nstm.acquisition import DataError
from nstm.blindsim import METHODS, BlindModel, ConjugateGradient, GradientDescent, Unrolled, reconstruct, solve, start
from nstm.illumination.speckle import usable
from tests.blindsim.phantom import SIDE, TRANSFER, decibel, recorded

JOINT = ("gradient_descent", "conjugate_gradient", "nesterov")


@pytest.fixture(scope="module")
def results():
    return {name: reconstruct(recorded().frames, TRANSFER, name, iterations=80) for name in METHODS}


def first_below(costs, level):
    return int(np.argmax(costs <= level))


def test_every_method_lowers_the_cost(results):
    for name, result in results.items():
        assert result.iterations == 80
        assert result.costs[-1] < 0.3 * result.costs[0], name
        if name != "per_frame":  # FISTA is not monotone
            assert np.all(np.diff(result.costs) <= 1e-5 * result.costs[:-1]), name


def test_accelerated_methods_need_far_fewer_iterations(results):
    level = results["gradient_descent"].costs[-1]
    assert first_below(results["conjugate_gradient"].costs, level) < 80 / 3
    assert first_below(results["nesterov"].costs, level) < 80 / 2
    assert first_below(results["per_frame"].costs, level) < 80 / 5


def test_images_are_better_than_widefield(results):
    widefield = decibel(recorded().frames.mean(axis=0))
    for name, result in results.items():
        assert decibel(result.density) > widefield + 1, name
    assert decibel(results["per_frame"].density) > decibel(results["gradient_descent"].density) + 1


def test_the_convex_solution_bounds_every_feasible_one(results):
    """With patterns cut at 0 and brought back to mean 1, none has less cost."""
    frames = recorded().frames.astype(np.float64)
    least = reconstruct(recorded().frames, TRANSFER, "per_frame", iterations=600).costs[-1]
    for name in JOINT:
        products = results[name].density * np.maximum(results[name].patterns, 0)
        seen = np.fft.irfft2(TRANSFER * np.fft.rfft2(products), s=(SIDE, SIDE))
        assert least < np.sum((frames - seen) ** 2), name
    assert least <= results["per_frame"].costs[-1] * (1 + 1e-5)


def test_recorded_cost_is_the_cost(results):
    for name, result in results.items():
        seen = np.fft.irfft2(TRANSFER * np.fft.rfft2(result.density * result.patterns), s=(SIDE, SIDE))
        cost = np.sum((recorded().frames - seen) ** 2, dtype=np.float64)
        assert result.costs[-1] == pytest.approx(cost, rel=2e-4), name


def test_the_light_is_found_where_there_is_something_to_light(results):
    result, truth = results["per_frame"], recorded().patterns
    bright = result.density > 0.3 * result.density.max()
    assert np.corrcoef(result.patterns[:, bright].ravel(), truth[:, bright].ravel())[0, 1] > 0.6
    np.testing.assert_allclose(result.patterns.mean(axis=0), 1, atol=1e-4)


def test_it_stops_at_the_noise():
    energy = recorded().noise_energy
    result = reconstruct(
        recorded().frames, TRANSFER, "conjugate_gradient", iterations=500, noise_energy=np.full(20, energy / 20)
    )
    assert result.costs[-1] <= energy < result.costs[-2]
    assert 5 < result.iterations < 200


def test_it_stops_at_a_cost_and_where_it_is_flat():
    frames = recorded().frames
    to_cost = reconstruct(frames, TRANSFER, "nesterov", iterations=80, stop_cost=100.0)
    assert to_cost.costs[-1] <= 100 < to_cost.costs[-2]
    flat = reconstruct(frames, TRANSFER, "conjugate_gradient", iterations=300, flat=0.05)
    assert flat.iterations < 300
    assert flat.costs[-1] > 0.95 * flat.costs[-11]


@pytest.mark.parametrize("name", METHODS)
def test_order_of_frames_does_not_matter(name):
    frames = recorded(patterns=8).frames
    shuffled = np.random.default_rng(1).permutation(8)
    a = reconstruct(frames, TRANSFER, name, iterations=15)
    b = reconstruct(frames[shuffled], TRANSFER, name, iterations=15)
    np.testing.assert_array_equal(a.density, b.density)
    np.testing.assert_array_equal(a.patterns[shuffled], b.patterns)


@pytest.mark.parametrize("name", METHODS)
def test_nor_does_it_where_all_frames_are_equally_bright(name):
    """Whole numbers of one sum; frames that are turned over have one sum of squares too."""
    first, second = np.rint(recorded(patterns=8).frames[:2] * 1000)
    second.flat[second.argmax()] += first.sum() - second.sum()
    frames = np.stack([f[::y, ::x] for f in (first, second) for y in (1, -1) for x in (1, -1)])
    assert len(np.unique(frames.sum(axis=(1, 2)))) == 1
    a = reconstruct(frames, TRANSFER, name, iterations=10)
    b = reconstruct(frames[::-1].copy(), TRANSFER, name, iterations=10)
    np.testing.assert_array_equal(a.density, b.density)


def test_units_are_those_of_the_frames():
    frames = recorded(patterns=8).frames
    a = reconstruct(frames, TRANSFER, "nesterov", iterations=10)
    b = reconstruct(frames * 512, TRANSFER, "nesterov", iterations=10)
    np.testing.assert_allclose(b.density, a.density * 512, rtol=1e-5)
    np.testing.assert_allclose(b.costs, a.costs * 512**2, rtol=1e-5)


def test_dead_and_full_frames_are_told_and_left_out():
    frames = recorded(patterns=8).frames * 1000
    broken = frames.copy()
    broken[2] = 1.0
    broken[5, :8, :8] = 5000
    broken[6, 0, 0] = np.nan
    found = usable(broken, 5000)
    result = reconstruct(broken, TRANSFER, "per_frame", iterations=5, usable_frames=found)
    assert {r["code"] for r in result.reasons} == {"dead_frames", "saturated_frames", "not_finite"}
    assert "frames 2 " in next(r["message"] for r in result.reasons if r["code"] == "dead_frames")
    np.testing.assert_array_equal(np.flatnonzero(~result.used), [2, 5, 6])
    assert np.isnan(result.patterns[[2, 5, 6]]).all()
    clean = reconstruct(frames[result.used], TRANSFER, "per_frame", iterations=5)
    np.testing.assert_array_equal(result.density, clean.density)
    assert not usable(frames).reasons


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {"method": "magic"}, "no method 'magic'.*per_frame"),
        (lambda f: {"frames": f[:2]}, "2 of 2 frames.*at least 3"),
        (lambda f: {"frames": f[:, :, :-1]}, "must be"),
        (lambda f: {"frames": -f}, "nowhere above 0|can be used"),
        (lambda f: {"frames": f[0, 0]}, r"must be \(frame, y, x\)"),
        (lambda f: {"transfer": 1.1 * TRANSFER}, "the transfer reaches 1.1"),
        (lambda f: {"transfer": np.nan * TRANSFER}, "the transfer reaches nan"),
        (lambda f: {"noise_energy": np.ones(5)}, r"noise_energy \(5,\) .* each of the 8 frames"),
        (lambda f: {"iterations": -1}, "iterations = -1 must be 0 or more"),
        (lambda f: {"iterations": -1, "method": Unrolled.new("per_frame", 8, 2)}, "iterations = -1"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"frames": recorded(patterns=8).frames, "transfer": TRANSFER, **change(recorded(patterns=8).frames)}
    with pytest.raises(DataError, match=message):
        reconstruct(**given)


def test_a_fixed_step_descends_too():
    """A step of the size that is known to be safe in these units."""
    frames = recorded().frames
    outcome = solve(GradientDescent(0.02), BlindModel.of(frames, TRANSFER), start(frames), 20)
    assert np.all(np.diff(outcome.costs) < 0)
    exact = solve(ConjugateGradient(), BlindModel.of(frames, TRANSFER), start(frames), 20)
    assert exact.costs[-1] < outcome.costs[-1]
