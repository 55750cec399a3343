"""Images that UBSIM is trained and tested on: crops of given structures under fresh speckle and noise.

Images are split by source image, never by crop, so that no part of a test image was seen in training.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import imageio.v3 as iio
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import scipy.fft
import scipy.signal
from numpy.typing import NDArray

from nstm.acquisition import DataError
from nstm.simulate.grid import roll_off
from nstm.simulate.speckle import SpeckleMicroscope, Stack, stack
from nstm.simulate.structures import Area, er_network, filaments

Image = NDArray[np.float64]
Part = Literal["training", "validation", "test"]

#: Source images of each structure by part; of other numbers the same shares.
SPLIT: Mapping[Part, int] = {"training": 28, "validation": 4, "test": 8}
#: Side of the images that are simulated where none are given, pixel.
_SIMULATED_PX = 256
#: Name of the structure of :func:`digits`, and the side of its images, pixel.
DIGITS, _DIGITS_PX = "digits", 160
#: Least share of an image's brightest value that a crop must reach on average: empty ones teach nothing.
_LEAST_MEAN = 0.02
#: How often another place is tried before any is taken that is not dark.
_TRIES = 19


@dataclass(frozen=True)
class Sources:
    """Source images of one part of the split.

    Attributes:
        images: by structure; values from 0 to 1.
        pitch_um: their pixel, that of the reconstruction.
    """

    images: Mapping[str, list[Image]]
    pitch_um: float

    @functools.cached_property
    def fingerprint(self) -> str:
        """The same for the same images only."""
        found = hashlib.sha256()
        for name, images in sorted(self.images.items()):
            for image in images:
                found.update(f"{name} {image.shape}".encode() + image.tobytes())
        return found.hexdigest()

    def crops(self, side: int, number: int, seed: int) -> Iterator[Image]:
        """Crops of all structures by turns, turned and mirrored at random.

        Raises:
            DataError: images are smaller than a crop, or dark almost everywhere.
        """
        rng = np.random.default_rng([seed, 11])
        names = sorted(self.images)
        for i in range(number):
            of = self.images[names[i % len(names)]]
            which = int(rng.integers(len(of)))
            image, where = of[which], f"image {which} (from 0) of this part of {names[i % len(names)]!r}"
            if min(image.shape) < side:
                raise DataError(f"{where}: its {image.shape} pixels are smaller than a crop of {side}")
            yield _crop(image, side, rng, where)

    def only(self, name: str) -> Sources:
        """The images of one structure.

        Raises:
            DataError: there is none of this name.
        """
        if name not in self.images:
            raise DataError(f"no images of {name!r}: there are those of {', '.join(sorted(self.images))}")
        return replace(self, images={name: self.images[name]})

    def stacks(self, microscope: SpeckleMicroscope, side: int, number: int, seed: int) -> Iterator[tuple[Image, Stack]]:
        """Crops under light and noise of their own; the light of a frame is 50 to 2000 photons at its brightest."""
        rng = np.random.default_rng([seed, 12])
        for i, density in enumerate(self.crops(side, number, seed)):
            own = replace(
                microscope,
                photons=float(np.exp(rng.uniform(np.log(50), np.log(2000)))),
                background=float(rng.uniform(0, 20)),
                read_noise=float(rng.uniform(1, 2)),
            )
            yield density, stack(density, own, self.pitch_um, int(rng.integers(2**31)) + i)


def _crop(image: Image, side: int, rng: np.random.Generator, where: str) -> Image:
    for tried in range(1000):
        y, x = (int(rng.integers(n - side + 1)) for n in image.shape)
        crop = image[y : y + side, x : x + side]
        if crop.mean() > _LEAST_MEAN * image.max() or (tried >= _TRIES and crop.max() > 0):
            break
    else:
        raise DataError(f"{where} has no place of {side} x {side} pixels that is not dark: leave it out")
    turned = np.rot90(crop, int(rng.integers(4)))
    return np.ascontiguousarray(turned[::-1] if rng.random() < 0.5 else turned)


def sources(folder: Path | None, part: Part, pitch_um: float, image_pixel_um: float | None = None) -> Sources:
    """The source images of a part.

    Args:
        folder: one folder of images (PNG, TIFF) per structure; ``None``: structures are simulated.
        part: which.
        pitch_um: pixel of the reconstruction.
        image_pixel_um: pixel of the images in the sample, from which they are brought to that of the reconstruction;
            ``None``: they have it.

    Raises:
        DataError: the folder holds no structure, one with fewer images than parts, or a file that is no image.
    """
    if folder is None:
        return _simulated(part, pitch_um)
    images, ratio = {}, (image_pixel_um or pitch_um) / pitch_um
    for structure in structures(folder):
        chosen = split(_files(structure), part, str(structure))
        images[structure.name] = [_limited(_resampled(_grey(file), ratio)) for file in chosen]
    return Sources(images, pitch_um)


def structures(folder: Path) -> list[Path]:
    """The folders of the structures.

    Raises:
        DataError: there is none.
    """
    found = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if not found:
        raise DataError(f"{folder}: holds no folder of images; one for each structure is needed, or none at all")
    return found


def images_sha256(folder: Path) -> str:
    """SHA-256 of the files of all images, by structure and in the order of their numbers.

    Raises:
        DataError: as :func:`structures`.
    """
    found = hashlib.sha256()
    for file in (file for structure in structures(folder) for file in _files(structure)):
        found.update(file.read_bytes())
    return found.hexdigest()


def _files(structure: Path) -> list[Path]:
    files = [p for p in structure.iterdir() if p.suffix.lower() in (".png", ".tif", ".tiff")]
    return sorted(files, key=_natural)


def split(files: list[Path], part: Part, name: str) -> list[Path]:
    """The files of a part; the same for every call.

    Raises:
        DataError: fewer files than parts.
    """
    if len(files) < len(SPLIT):
        raise DataError(f"{name}: {len(files)} images cannot be split into {', '.join(SPLIT)}")
    order = np.random.default_rng(0).permutation(len(files))
    whole = sum(SPLIT.values())
    counts = {p: max(1, round(n * len(files) / whole)) for p, n in SPLIT.items()}
    counts["training"] = len(files) - counts["validation"] - counts["test"]
    first = sum(counts[p] for p in list(SPLIT)[: list(SPLIT).index(part)])
    return [files[i] for i in sorted(order[first : first + counts[part]])]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order in which 2 comes before 10."""
    return [(int(t), "") if t.isdigit() else (0, t) for t in re.split(r"(\d+)", path.name)]


def _grey(path: Path) -> Image:
    try:
        read = np.asarray(iio.imread(path))
    except (OSError, ValueError, SyntaxError, IndexError, KeyError) as error:  # so do its libraries call damage
        raise DataError(f"{path}: cannot be read as an image ({error}): copy it anew, or leave it out") from None
    if read.ndim != 2 and (read.ndim != 3 or read.shape[-1] not in (3, 4)):
        raise DataError(
            f"{path}: holds {read.shape} values; an image must be grey (y, x) or in colours (y, x, 3 or 4): save the "
            "planes of a stack as files of their own"
        )
    image = read.astype(np.float64)
    image = image[..., :3].mean(axis=-1) if image.ndim == 3 else image
    if not np.isfinite(image).all() or not image.max() > image.min():
        raise DataError(f"{path}: an image without contrast, or with values that are not finite: leave it out")
    return (image - image.min()) / (image.max() - image.min())


def _resampled(image: Image, ratio: float) -> Image:
    """On pixels that are ``1 / ratio`` times as large as before, by its Fourier series."""
    for axis in (0, 1):
        image = scipy.signal.resample(image, round(image.shape[axis] * ratio), axis=axis)
    return image


def _limited(image: Image) -> Image:
    """Without the frequencies near Nyquist, which the grid cannot tell from their aliases; from 0 to 1."""
    radius = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    smooth = scipy.fft.irfft2(scipy.fft.rfft2(image) * roll_off(radius, 0.35, 0.5), s=image.shape)
    smooth = np.maximum(smooth, 0)
    return np.asarray(smooth / smooth.max())


def digits(part: Part, pitch_um: float, number: int | None = None) -> Sources:
    """Images of digits of all sizes, turned at random: a structure unlike any of a cell.

    Args:
        part: every part has seeds of its own.
        pitch_um: pixel of the reconstruction.
        number: of images; ``None``: as many as the part has.
    """
    first, side, images = 100 * list(SPLIT).index(part), _DIGITS_PX, []
    for seed in range(first, first + (number or SPLIT[part])):
        rng, image = np.random.default_rng([seed, 13]), np.zeros((side, side))
        for _ in range(40):
            size = int(rng.integers(10, 48))
            picture = PIL.Image.new("L", (size, size))
            pen, font = PIL.ImageDraw.Draw(picture), PIL.ImageFont.load_default(size)
            pen.text((size / 4, -size / 8), str(rng.integers(10)), fill=255, font=font)
            turned = np.asarray(picture.rotate(float(rng.uniform(0, 360)), PIL.Image.Resampling.BILINEAR), float)
            y, x = (int(v) for v in rng.integers(0, side - size, 2))
            image[y : y + size, x : x + size] += rng.uniform(0.3, 1.0) * turned
        images.append(_limited(image))
    return Sources({DIGITS: images}, pitch_um)


def _simulated(part: Part, pitch_um: float) -> Sources:
    """Networks and filaments, a few of each; every part has seeds of its own."""
    side = _SIMULATED_PX
    area = Area(0.0, 0.0, side * pitch_um, side * pitch_um)
    first = 100 * list(SPLIT).index(part)
    images: dict[str, list[Image]] = {"network": [], "filaments": []}
    for seed in range(first, first + SPLIT[part]):
        for name, points in (("network", er_network(seed, area)), ("filaments", filaments(seed, area, number=30))):
            image = np.zeros((side, side))
            np.add.at(image, tuple(np.rint(points.position / pitch_um).astype(int).T % side), points.weight)
            images[name].append(_limited(image))
    return Sources(images, pitch_um)
