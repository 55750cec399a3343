"""UBSIM: what it is without training, what it does not depend on, and that it learns, stops and goes on."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from safetensors.numpy import save_file

from nstm.acquisition import DataError
from nstm.blindsim import METHODS, BlindModel, GradientDescent, reconstruct, solve, start
from nstm.blindsim.model import patterns_of
from nstm.blindsim.training import Plan, Unsupervised, train
from nstm.blindsim.unet import UNet, parameters
from nstm.blindsim.unrolled import BLOCKS, Unrolled, inverse_softplus, loss
from nstm.blindsim.weights import SHIPPED, arrays_of, load_weights, save_weights, untrained
from nstm.simulate.speckle import transfer_on
from nstm.systems.speckle_settings import STACKED_FRAMES
from tests.blindsim.phantom import MICROSCOPE, PITCH, SIDE, TRANSFER, decibel, recorded

FRAMES = recorded(patterns=6).frames * 2


def model(frames=FRAMES):
    return BlindModel.of(frames, TRANSFER), start(frames)


def shaken(unrolled, seed=0, size=0.05):
    """The network with numbers that no training gave it, so that it is not gradient descent."""
    keys = iter(jax.random.split(jax.random.PRNGKey(seed), 100))
    return jax.tree.map(
        lambda a: a + size * jax.random.normal(next(keys), a.shape) if isinstance(a, jax.Array) else a, unrolled
    )


@pytest.mark.parametrize(("mode", "outputs"), [("stacked", 6), ("per_frame", 1)])
def test_an_identity_network_with_a_constant_step_is_gradient_descent(mode, outputs):
    """Step for step: its first channels are the negative gradients."""
    frames, step = 6 if mode == "stacked" else None, 0.004
    unrolled = Unrolled(lambda x: x[:outputs], inverse_softplus(jnp.full((BLOCKS, 2), step)), mode, frames)
    found, costs = unrolled(*model())
    descent = solve(GradientDescent(step), *model(), BLOCKS)
    np.testing.assert_allclose(costs, descent.costs, rtol=1e-5)
    np.testing.assert_allclose(found.object**2, descent.object, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(patterns_of(found), descent.patterns, rtol=1e-3, atol=1e-5)


def test_a_new_network_per_frame_makes_projected_steps():
    """With whole steps it is the convex method without momentum: less cost than gradients, above the convex bound."""
    unrolled = Unrolled.new("per_frame", 6, 4)
    whole = Unrolled(unrolled.network, inverse_softplus(jnp.ones((BLOCKS, 2))), "per_frame", None)
    found, costs = whole(*model())
    blind, _ = model()
    products = start(FRAMES).object ** 2 * jnp.ones_like(blind.back(blind.spectra))
    for _ in range(BLOCKS):
        products = jnp.maximum(products + blind.back(blind.spectra - blind.seen(products)), 0)
    np.testing.assert_allclose(found.object**2, products.mean(axis=0), atol=0.02)  # but for the darkest places
    assert float(costs[-1]) == pytest.approx(float(blind.cost(blind.spectra - blind.seen(products))), rel=0.02)
    bound = solve(METHODS["per_frame"], *model(), 500).costs[-1]
    assert bound < costs[-1] < solve(GradientDescent(), *model(), BLOCKS).costs[BLOCKS]
    sharpened = Unrolled.new("stacked", 6, 4)(*model())[1]
    assert sharpened[-1] < costs[-1], "frequencies of equal weight lead further"


@pytest.mark.parametrize(
    ("channels", "width", "number"), [((41, 20), 64, 218_768), ((41, 20), 14, 27_618), ((5, 1), 24, 21_244)]
)
def test_size_of_the_network(channels, width, number):
    found = parameters(UNet(*channels, width, key=jax.random.PRNGKey(0)))
    assert found < (250_000 if width == 64 else 30_000)
    assert found == number


def test_per_frame_does_not_know_the_order_and_takes_any_number():
    unrolled = shaken(Unrolled.new("per_frame", 6, 4))
    order = np.r_[np.random.default_rng(0).permutation(5), 5]  # the last is that of the model
    (a, costs), (b, others) = unrolled(*model()), unrolled(*model(FRAMES[order]))
    assert abs(float(costs[-1] / costs[0]) - 1) > 1e-3
    np.testing.assert_allclose(costs, others, rtol=1e-5)
    np.testing.assert_allclose(a.object, b.object, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(a.patterns[order[:5]], b.patterns, rtol=1e-4, atol=1e-4)
    assert unrolled(*model(FRAMES[:4]))[0].patterns.shape[0] == 3


def test_stacked_refuses_another_number_of_frames():
    unrolled = Unrolled.new("stacked", 6, 4)
    with pytest.raises(DataError, match=r"trained for 6 stacked frames and cannot take 5.*per_frame"):
        unrolled(*model(FRAMES[:5]))
    with pytest.raises(DataError, match="multiple of 4"):
        unrolled.check(6, (62, 64))


def test_a_larger_field_looks_alike():
    """Four times the same field: no channel depends on the number of pixels."""
    unrolled = shaken(Unrolled.new("stacked", 6, 4))
    large = np.tile(FRAMES, (1, 2, 2))
    transfer = transfer_on((2 * SIDE, 2 * SIDE), MICROSCOPE, PITCH)
    whole, costs = unrolled(BlindModel.of(large, transfer), start(large))
    part, alone = unrolled(*model())
    np.testing.assert_allclose(costs, 4 * alone, rtol=1e-4)
    np.testing.assert_allclose(whole.object[:SIDE, :SIDE], part.object, atol=1e-3)


BATCHES = [np.stack([recorded(seed, 6).frames * 2 for seed in pair]) for pair in ((0, 1), (2, 3))]
PLAN = Plan(epochs=3, rate=3e-3)
LOSS = Unsupervised(jnp.asarray(TRANSFER, jnp.float32), every_block=True)


def test_training_lowers_the_loss_and_goes_on_where_it_stopped(tmp_path):
    def of(epoch):
        return BATCHES[epoch % 2 :] + BATCHES[: epoch % 2]

    lines = []
    begin = Unrolled.new("stacked", 6, 4)
    whole, history = train(begin, LOSS, of, BATCHES, PLAN, progress=lines.append)
    assert len(lines) == 3
    assert "validation" in lines[0]
    assert history.validation[-1] < history.validation[0]
    batch = jnp.asarray(BATCHES[0])
    models, starts = (
        jax.vmap(lambda f: BlindModel.of(f, jnp.asarray(TRANSFER, jnp.float32)))(batch),
        jax.vmap(start)(batch),
    )
    assert float(loss(whole, models, starts)) < float(loss(begin, models, starts))
    checkpoint = tmp_path / "state.npz"
    train(begin, LOSS, of, BATCHES, Plan(**{**vars(PLAN), "epochs": 2}), checkpoint=checkpoint)
    resumed, again = train(begin, LOSS, of, BATCHES, PLAN, checkpoint=checkpoint)
    assert again.validation == history.validation
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(DataError, match=r"begun with rate = 0.003 and not 1.0: remove it"):
        train(begin, LOSS, of, BATCHES, Plan(epochs=3, rate=1.0), checkpoint=checkpoint)
    with pytest.raises(DataError, match="begun with other images: remove it"):
        train(begin, LOSS, of, BATCHES, PLAN, about={"images": 80 * "x"}, checkpoint=checkpoint)
    with pytest.raises(DataError, match=r"state.npz: this training has made 3 epochs, more than epochs = 2"):
        train(begin, LOSS, of, BATCHES, Plan(epochs=2, rate=3e-3), checkpoint=checkpoint)
    whole_state = checkpoint.read_bytes()
    for damaged in (whole_state[: len(whole_state) // 2], b"text", b""):
        checkpoint.write_bytes(damaged)
        with pytest.raises(DataError, match=r"state.npz: not the state of a training.*remove it to begin anew"):
            train(begin, LOSS, of, BATCHES, PLAN, checkpoint=checkpoint)


def test_the_rate_falls_when_the_loss_stays():
    plan = Plan(epochs=4, rate=1e-12, patience=1, factor=0.5)
    _, history = train(Unrolled.new("per_frame", 6, 2), LOSS, lambda epoch: BATCHES[:1], BATCHES[:1], plan)
    assert history.rate[0] == 1e-12
    assert history.rate[-1] < history.rate[0]


def test_weights_come_back_with_their_card(tmp_path):
    unrolled = shaken(Unrolled.new("stacked", 6, 4))
    path = tmp_path / "net.safetensors"
    save_weights(path, unrolled, 4, {"trained on": "nothing"})
    read, card = load_weights(path)
    assert card == {"trained on": "nothing"}
    assert (read.mode, read.frames) == ("stacked", 6)
    for a, b in zip(jax.tree.leaves(unrolled), jax.tree.leaves(read), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(DataError, match="no such file"):
        load_weights(tmp_path / "other")
    (tmp_path / "text").write_text("x")
    with pytest.raises(DataError, match="safetensors format"):
        load_weights(tmp_path / "text")
    save_file({"a": np.zeros(2)}, tmp_path / "foreign")
    with pytest.raises(DataError, match="no network of UBSIM"):
        load_weights(tmp_path / "foreign")


def test_before_its_training_a_network_finds_the_same_for_every_seed(tmp_path):
    """It adds nothing yet, so the file need not say which seed it was."""
    path, begin = tmp_path / "net.safetensors", Unrolled.new("per_frame", 6, 4, blocks=3, seed=5)
    save_weights(path, shaken(begin), 4, {})
    found, costs = untrained(path).followed(*model())
    of_seed, costs_of_seed = begin.followed(*model())
    assert costs == costs_of_seed
    np.testing.assert_array_equal(found.object, of_seed.object)


GOOD = {"schema": "ubsim-1", "mode": "stacked", "frames": 6, "width": 4, "blocks": 6, "card": {}}


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ([], "should be an object"),
        (None, "should be an object"),
        ({**GOOD, "schema": "ubsim-0"}, "schema: Input should be 'ubsim-1'"),
        ({k: v for k, v in GOOD.items() if k != "mode"}, "mode: Field required"),
        ({**GOOD, "mode": "foo"}, "mode: Input should be 'stacked' or 'per_frame'"),
        ({**GOOD, "mode": "per_frame"}, "frames = 6 does not suit mode = per_frame"),
        ({**GOOD, "frames": None}, "frames = None does not suit mode = stacked"),
        ({**GOOD, "width": "4"}, "width: Input should be a valid integer"),
        ({**GOOD, "width": 0}, "width: Input should be greater than"),
        ({**GOOD, "width": 5}, r"the arrays .* do not fit the network"),
        ({**GOOD, "blocks": 3}, "the arrays log_steps do not fit the network"),
    ],
)
def test_weights_that_say_something_else_of_themselves_are_refused(tmp_path, about, message):
    path = tmp_path / "net.safetensors"
    save_file(arrays_of(Unrolled.new("stacked", 6, 4)), path, {"ubsim": json.dumps(about)})
    with pytest.raises(DataError, match=rf"net.safetensors: .*{message}"):
        load_weights(path)


@pytest.mark.parametrize("kind", ["float16", "int32", "nan"])
def test_weights_that_are_no_finite_float32_are_refused(tmp_path, kind):
    path, arrays = tmp_path / "net.safetensors", arrays_of(Unrolled.new("stacked", 6, 4))
    steps = arrays["log_steps"]
    arrays["log_steps"] = steps + np.float32(np.nan) if kind == "nan" else steps.astype(kind)
    save_file(arrays, path, {"ubsim": json.dumps(GOOD)})
    with pytest.raises(DataError, match=r"net.safetensors: the arrays log_steps are not finite.*float32"):
        load_weights(path)


@pytest.mark.parametrize("mode", SHIPPED)
def test_the_cards_of_the_package_say_whose_images_they_were_trained_on(mode):
    _, card = load_weights(SHIPPED[mode])
    assert "github.com/Zach-T-Burns/Untrained-PINN-for-SIM" in card["images_source"]
    assert card["images_licence"] == "MIT, Copyright (c) 2022 Zachary Burns"
    assert card["images_sha256"] == "7787182c613e1dce85614782fe6e30e5d4725a62b08fea0fef720c32b5bfa33a"


def test_the_network_of_the_package():
    network, card = load_weights(SHIPPED["per_frame"])
    assert network.mode == "per_frame"
    assert parameters(network.network) == card["parameters"] < 30_000
    assert card["command"] == "nstm train-blind ubsim.safetensors --images FOLDER --set " + (
        "epochs=120,patience=8,image_pixel_um=0.0217"
    )


def test_the_stacked_network_of_the_package():
    network, card = load_weights(SHIPPED["stacked"])
    assert (network.mode, network.frames) == ("stacked", STACKED_FRAMES)
    assert parameters(network.network) == card["parameters"] < 250_000
    assert card["command"] == "nstm train-blind ubsim_stacked.safetensors --images FOLDER --set " + (
        "mode=stacked,frames=20,width=64,epochs=120,rate=0.0005,patience=15,image_pixel_um=0.0217"
    )
    with pytest.raises(DataError, match=r"trained for 20 stacked frames and cannot take 6.*per_frame"):
        reconstruct(FRAMES, TRANSFER, network)
    frames = recorded().frames
    found, other = (reconstruct(frames, TRANSFER, method, iterations=6) for method in (network, "conjugate_gradient"))
    assert found.costs[-1] < 0.3 * other.costs[-1]
    assert decibel(found.density) > decibel(other.density)


def test_the_network_of_the_package_makes_no_pattern_of_two_pixels():
    """Its 2 x 2 pixels come from different channels, and the frames tell nothing of the highest frequencies."""
    network, _ = load_weights(SHIPPED["per_frame"])
    frames = recorded(0, 10).frames
    found, costs = network.followed(BlindModel.of(frames, jnp.asarray(TRANSFER, jnp.float32)), start(frames))
    assert costs[-1] < 0.2 * costs[0]
    power = np.abs(np.fft.fft2(np.asarray(found.object**2))) ** 2
    highest = power[SIDE // 2].sum() + power[:, SIDE // 2].sum()
    assert highest < 1e-3 * (power.sum() - power[0, 0])


def test_frames_in_another_order_give_the_same_image():
    network, frames = load_weights(SHIPPED["per_frame"])[0], recorded(0, 6).frames
    order = np.random.default_rng(1).permutation(len(frames))
    one, other = (reconstruct(f, TRANSFER, network, iterations=3) for f in (frames, frames[order]))
    assert len(one.costs) == 4
    np.testing.assert_allclose(one.density, other.density, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.patterns[order], other.patterns, rtol=1e-4, atol=1e-4)


def test_the_convex_solution_bounds_what_the_network_finds():
    """Where all its light is positive, as the bound supposes (Burns et al. leave the last pattern free)."""
    network, frames = load_weights(SHIPPED["per_frame"])[0], recorded(0, 6).frames
    found = reconstruct(frames, TRANSFER, network)
    feasible = np.maximum(found.density * found.patterns, 0)
    seen = scipy.fft.irfft2(scipy.fft.rfft2(feasible) * TRANSFER, s=feasible.shape[-2:])
    convex = reconstruct(frames, TRANSFER, "per_frame", iterations=400)
    assert convex.costs.min() < np.sum((frames - seen) ** 2)
