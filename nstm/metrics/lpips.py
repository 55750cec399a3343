"""LPIPS with weights that the user supplies: a plug-in, since its networks cannot be shipped.

Zhang et al., CVPR 2018: the distance of two images in the features of VGG16, each feature vector scaled to length 1 and
its channels weighted by learned numbers. Similarity is 1 minus it. Without the weights there is no such figure; nothing
stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nstm.acquisition import DataError
from nstm.metrics.image import Image

#: Convolutions of VGG16 by their numbers in ``torchvision``, with their channels; features are taken at block ends.
BLOCKS = (
    ((0, 64), (2, 64)),
    ((5, 128), (7, 128)),
    ((10, 256), (12, 256), (14, 256)),
    ((17, 512), (19, 512), (21, 512)),
    ((24, 512), (26, 512), (28, 512)),
)
#: Least side of an image: four times halved, one feature must be left.
SMALLEST = 16
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

Weights = Mapping[str, Float[Array, "..."]]


def load_weights(path: str | Path) -> Weights:
    """Read VGG16 and the linear heads of LPIPS from one safetensors file.

    Args:
        path: holds ``features.N.weight`` and ``features.N.bias`` of the convolutions as ``torchvision.models.vgg16``
            names them, and ``lin0.model.1.weight`` to ``lin4.model.1.weight`` as ``lpips.LPIPS(net="vgg")`` names its
            heads.

    Raises:
        DataError: no such file, or arrays are missing or have another shape.
    """
    if not Path(path).is_file():
        raise DataError(
            f"LPIPS weights {path}: no such file. LPIPS needs the weights of VGG16 and of its heads, which are not "
            "part of this package: save torchvision's vgg16 features and the heads of the lpips package into one "
            "safetensors file, or leave the figure out"
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(str(path))
    except SafetensorError as error:
        raise DataError(f"LPIPS weights {path}: not a safetensors file ({error})") from None
    wanted = _shapes()
    wrong = [
        f"{name} {wanted[name]}" + (f", found {found[name].shape}" if name in found else " is missing")
        for name in wanted
        if name not in found or found[name].shape != wanted[name]
    ]
    if wrong:
        raise DataError(f"LPIPS weights {path}: {len(wrong)} arrays do not fit, the first: {'; '.join(wrong[:3])}")
    return {name: jnp.asarray(found[name], jnp.float32) for name in wanted}


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    before = 3
    for number, block in enumerate(BLOCKS):
        for layer, channels in block:
            shapes[f"features.{layer}.weight"] = (channels, before, 3, 3)
            shapes[f"features.{layer}.bias"] = (channels,)
            before = channels
        shapes[f"lin{number}.model.1.weight"] = (1, before, 1, 1)
    return shapes


def lpips(image: Image, truth: Image, weights: Weights) -> float:
    """Distance of two ``(y, x)`` images with values from 0 to 1; 0 for the same image.

    Raises:
        DataError: shapes differ or are too small, or values lie outside of 0 to 1.
    """
    if image.shape != truth.shape or image.ndim != 2 or min(image.shape) < SMALLEST:
        raise DataError(
            f"LPIPS compares (y, x) images of one shape, at least {SMALLEST} pixels: {image.shape}, {truth.shape}"
        )
    low, high = min(image.min(), truth.min()), max(image.max(), truth.max())
    if not (low >= 0 and high <= 1):
        raise DataError(f"LPIPS needs values from 0 to 1, found {low:.3g} to {high:.3g}: scale both images alike")
    return float(_distance(jnp.asarray(np.stack([image, truth]), jnp.float32), weights))


@jax.jit
def _distance(images: Float[Array, "2 y x"], weights: Weights) -> Float[Array, ""]:
    x = (2 * images[:, None] - 1 - jnp.array(_SHIFT)[:, None, None]) / jnp.array(_SCALE)[:, None, None]
    total = jnp.zeros(())
    for number, block in enumerate(BLOCKS):
        if number:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        for layer, _ in block:
            x = jax.lax.conv(x, weights[f"features.{layer}.weight"], (1, 1), "SAME")
            x = jax.nn.relu(x + weights[f"features.{layer}.bias"][:, None, None])
        unit = x / (jnp.sqrt(jnp.sum(x**2, axis=1, keepdims=True)) + 1e-10)
        head = weights[f"lin{number}.model.1.weight"][0]
        total += jnp.mean(jnp.sum(head * (unit[0] - unit[1]) ** 2, axis=0))
    return total
