"""Forward models of SIM: one plane, and volumes whose pattern also varies along z."""

from __future__ import annotations

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int
from scipy.fft import next_fast_len

from nstm.acquisition import DataError
from nstm.systems.forward import ForwardModel
from nstm.systems.sim_pattern import Pattern


class SimForward(ForwardModel):
    """``frame = crop F^-1{ sum_g OTF_g F{ scene x pattern_g } }`` at camera sampling (Gustafsson 2008).

    Orders of the pattern that share a transfer function are one group ``g``. A single plane sees all orders through
    one; in a volume order 1 has a transfer function of its own, since its pattern also varies along z, in step with
    the focal plane.

    The planes of a frame may be taken at several times: ``blocks`` gives for every plane the one of the ``k`` scenes
    that it sees.
    """

    pattern: Pattern
    transfer: Float[Array, "g z v h"]
    support: Float[Array, "y h"]
    axial_support: Float[Array, "kz"]
    blocks: Int[Array, "planes"]
    groups: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    camera_shape: tuple[int, int] = eqx.field(static=True)
    camera_field: tuple[int, int, int, int] = eqx.field(static=True)  # first row and column, rows, columns

    def render(self, scenes: Float[Array, "n k 1 z y x"], which: Int[Array, "n"]) -> Float[Array, "n z v u"]:
        """Frames of the camera from the scene at their times."""
        k, depth = scenes.shape[1], scenes.shape[3]
        total: Array | None = None
        for orders, transfer in zip(self.groups, self.transfer, strict=True):
            lit = scenes[:, :, 0] * self.pattern.of(which, orders)[:, None, None]
            spectrum = crop_spectrum(lit, self.camera_shape)
            if depth > 1:
                spectrum = jnp.fft.fft(spectrum, axis=-3)
            total = spectrum * transfer if total is None else total + spectrum * transfer
        assert total is not None
        if depth > 1:
            total = jnp.fft.ifft(total, axis=-3)
        (first, planes), (y, x, h, w) = self.output_field[0], self.camera_field
        seen = total[:, :, first : first + planes]
        own = seen[:, 0] if k == 1 else seen[:, self.blocks, jnp.arange(planes)]
        frames = jnp.fft.irfft2(own, s=self.camera_shape)
        return frames[..., y : y + h, x : x + w]

    def offsets(self) -> dict[str, Array]:
        """Corrections of the gains and of the pattern; see :meth:`Pattern.offsets`."""
        return {**super().offsets(), **self.pattern.offsets()}

    def corrected(self, light: dict[str, Array]) -> SimForward:
        """The model with a corrected pattern."""
        return eqx.tree_at(lambda m: m.pattern, self, self.pattern.corrected(light))

    def output(self, scene: Float[Array, "1 z y x"]) -> Float[Array, "1 z y x"]:
        """The field of the camera, limited to the support of the shifted transfer functions, laterally and along z.

        A scene that is nowhere negative is sharper than what is transferred, above all along z.
        """
        spectrum = jnp.fft.rfft2(scene) * self.support
        if self.scene_shape[1] > 1:
            spectrum = jnp.fft.ifft(jnp.fft.fft(spectrum, axis=-3) * self.axial_support[:, None, None], axis=-3)
        return super().output(jnp.fft.irfft2(spectrum, s=self.scene_shape[-2:]))


def crop_spectrum(images: Float[Array, "*m y x"], shape: tuple[int, int]) -> Complex[Array, "*m v h"]:
    """Half spectrum of ``images`` on a coarser grid of ``shape``, scaled to keep intensities."""
    fine, (rows, columns) = images.shape[-2:], shape
    half = jnp.fft.rfft(images, axis=-1)[..., : columns // 2 + 1]  # columns beyond the camera are never transformed
    full = jnp.fft.fft(half, axis=-2)
    cut = jnp.concatenate([full[..., : rows // 2, :], full[..., full.shape[-2] - rows + rows // 2 :, :]], axis=-2)
    return cut * (rows * columns / (fine[0] * fine[1]))


def padded_side(side: int, padding: int, ratio: float) -> tuple[int, int]:
    """Camera and result samples of a padded side: both whole, the result a fast FFT length.

    Args:
        side: camera pixels of the field.
        padding: camera pixels wanted on each side; as many or more are taken, none stays none.
        ratio: result pixels per camera pixel.

    Raises:
        DataError: ``side * ratio`` is not whole and there is no padding to make it so.
    """
    candidates = [side] if padding == 0 else range(side + 2 * padding, 2 * side + 4 * padding + 64)
    for camera in candidates:
        fine = round(camera * ratio)
        whole = math.isclose(fine, camera * ratio, abs_tol=1e-6) and fine % 2 == 0
        fast = next_fast_len(fine) == fine and next_fast_len(camera) == camera and camera % 2 == 0
        if whole and (fast or padding == 0):
            return camera, fine
    raise DataError(
        f"optics.upsampling = {ratio} does not give an even whole number of pixels for a side of {side}: "
        "choose another upsampling (2 always fits even sides) or allow padding"
    )


def aligned(offset: int, ratio: float) -> int:
    """The largest offset up to the given one that is a whole number of samples on both grids."""
    for candidate in range(offset, -1, -1):
        if math.isclose(candidate * ratio, round(candidate * ratio), abs_tol=1e-6):
            return candidate
    return 0
