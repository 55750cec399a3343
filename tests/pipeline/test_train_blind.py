"""Training of UBSIM by its command: a few steps, what is written, images split by source."""

import hashlib
import json

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.blindsim.weights import load_weights
from nstm.pipeline.train_blind import Training, batches, run_training, settings_of
from nstm.simulate.blind_images import SPLIT, Sources, images_sha256, sources, split

SMALL = "mode=stacked,frames=4,width=2,blocks=2,side_px=16,stacks=4,validation_stacks=2,batch=2,epochs=2,patience=1"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two structures of ten images, each image of one grey value per source."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for structure in ("dots", "lines"):
        (folder / structure).mkdir()
        for number in range(10):
            image = (255 * rng.random((32, 32)) ** 3).astype(np.uint8)
            iio.imwrite(folder / structure / f"{number}.png", image)
    return folder


def test_parts_share_no_image(images):
    files = sorted((images / "dots").iterdir())
    parts = {part: split(files, part, "dots") for part in SPLIT}
    assert {part: len(of) for part, of in parts.items()} == {"training": 7, "validation": 1, "test": 2}
    assert sorted(p for of in parts.values() for p in of) == files
    assert {len(split(list(map(str, range(40))), part, "x")) for part in SPLIT} == set(SPLIT.values())
    with pytest.raises(DataError, match="2 images cannot be split"):
        split(files[:2], "test", "dots")


def test_crops_mix_the_structures_evenly_and_come_again(images):
    found = sources(images, "training", 0.065)
    assert {name: len(of) for name, of in found.images.items()} == {"dots": 7, "lines": 7}
    once, again = (list(found.crops(16, 6, seed=3)) for _ in range(2))
    for a, b in zip(once, again, strict=True):
        assert a.shape == (16, 16)
        np.testing.assert_array_equal(a, b)
    with pytest.raises(DataError, match="smaller than a crop"):
        next(found.crops(64, 1, seed=0))
    with pytest.raises(DataError, match="no folder of images"):
        sources(images / "dots", "test", 0.065)


@pytest.mark.parametrize(
    ("suffix", "write", "message"),
    [
        ("tif", lambda path: tifffile.imwrite(path, np.zeros((20, 40, 40), np.uint8)), r"holds \(20, 40, 40\) values"),
        ("tif", lambda path: path.write_bytes(b"II*\0\x08\0\0\0"), r"holds \(0,\) values"),
        ("png", lambda path: path.write_bytes(b"text"), "cannot be read as an image"),
        ("png", lambda path: path.write_bytes(b""), "cannot be read as an image"),
        ("png", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "cannot be read as an image"),
        ("png", lambda path: iio.imwrite(path, np.full((40, 40), 7, np.uint8)), "without contrast"),
        ("tif", lambda path: tifffile.imwrite(path, np.full((40, 40), np.nan, np.float32)), "not finite"),
    ],
)
def test_files_that_are_no_image_are_refused_by_name(tmp_path, suffix, write, message):
    (tmp_path / "dots").mkdir()
    for number in range(3):
        write(tmp_path / "dots" / f"{number}.{suffix}")
    with pytest.raises(DataError, match=rf"dots/\d.{suffix}: .*{message}"):
        sources(tmp_path, "training", 0.065)


def test_grey_and_colour_images_are_alike(tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    colours = {"a": grey, "b": np.stack([grey] * 3, -1), "c": np.stack([grey] * 4, -1)}
    for name, image in colours.items():
        (tmp_path / name).mkdir()
        for number in range(3):
            iio.imwrite(tmp_path / name / f"{number}.png", image)
    found = sources(tmp_path, "test", 0.065).images
    for name in ("b", "c"):
        np.testing.assert_allclose(found[name][0], found["a"][0], atol=1e-12)


def test_the_fingerprint_of_a_folder_is_that_of_its_files_in_the_order_of_their_numbers(tmp_path):
    for structure, names in {"b": ["1.png"], "a": ["10.png", "2.png", "notes.txt"]}.items():
        (tmp_path / structure).mkdir()
        for name in names:
            (tmp_path / structure / name).write_text(f"{structure} {name},")
    assert images_sha256(tmp_path) == hashlib.sha256(b"a 2.png,a 10.png,b 1.png,").hexdigest()


def test_images_are_brought_to_the_pixel_of_the_reconstruction(images):
    """Half as many pixels show the same: what a coarser grid holds of an image stays as it was."""
    same, finer = (sources(images, "training", 0.065, pixel).images["dots"][0] for pixel in (None, 0.0325))
    assert finer.shape == (same.shape[0] // 2, same.shape[1] // 2)
    low = [np.abs(np.fft.rfft2(image / image.mean()))[:4, :4] / image.size for image in (same, finer)]
    np.testing.assert_allclose(low[1], low[0], rtol=0.3, atol=0.05)


def test_simulated_structures_differ_from_part_to_part():
    training, test = (sources(None, part, 0.065).images for part in ("validation", "test"))
    assert set(training) == {"network", "filaments"}
    assert not any(np.array_equal(a, b) for a in training["network"] for b in test["network"])


def test_batches_are_in_the_units_of_the_iterations(images):
    settings = settings_of(SMALL)
    found = list(batches(sources(images, "training", settings.pitch_um), settings, 5, [0]))
    assert [b.shape for b in found] == [(2, 4, 16, 16)] * 2, "an incomplete batch is left out"
    for stack in np.concatenate(found):
        assert stack.mean(axis=0).max() == pytest.approx(2, rel=1e-5)
        assert np.argmax(stack.sum(axis=(1, 2))) == 3, "the brightest is the last"


def test_a_few_steps(images, tmp_path):
    out, lines = tmp_path / "net.safetensors", []
    run_training(settings_of(SMALL), images, out, lines.append)
    assert len(lines) == 2
    network, card = load_weights(out)
    assert (network.mode, network.frames) == ("stacked", 4)
    assert card["images"] == {"dots": 7, "lines": 7}
    assert card["epochs"] == 2
    assert card["images_sha256"] == images_sha256(images)
    assert card["command"].startswith("nstm train-blind net.safetensors --images FOLDER --set mode=stacked,frames=4,")
    history = json.loads(out.with_suffix(".json").read_text())["history"]
    assert len(history["validation"]) == 2
    assert out.with_suffix(".png").stat().st_size > 1000
    assert not out.with_suffix(".state.npz").exists()
    with pytest.raises(DataError, match=r"NAME.safetensors"):
        run_training(settings_of(SMALL), images, tmp_path / "net.pt")


def test_a_training_goes_on_with_the_same_images_only(images, tmp_path):
    of = sources(images, "training", 0.065)
    assert of.fingerprint == sources(images, "training", 0.065).fingerprint
    assert of.fingerprint != sources(images, "training", 0.065, 0.0325).fingerprint
    other = {**of.images, "dots": [image[::-1] for image in of.images["dots"]]}
    assert of.fingerprint != Sources(other, of.pitch_um).fingerprint


def test_dark_crops_are_drawn_again_and_dark_images_are_told():
    image = np.zeros((64, 64))
    image[:8, :8] = 1
    found = list(Sources({"spot": [image]}, 0.065).crops(16, 20, seed=0))
    assert all(crop.max() > 0 for crop in found)
    with pytest.raises(DataError, match="no place of 16 x 16 pixels that is not dark"):
        next(Sources({"dark": [np.zeros((64, 64))]}, 0.065).crops(16, 1, seed=0))


def test_settings():
    assert settings_of(None) == Training()
    assert settings_of("mode=per_frame, rate=2e-3").mode == "per_frame"
    with pytest.raises(DataError, match="batch = 32 is more than"):
        settings_of("batch=32")
    with pytest.raises(DataError, match=r"wdth.*allowed keys: mode"):
        settings_of("wdth=3")
