"""Figures of merit: PSNR, (MS-)SSIM, Fourier ring correlation, error of motion; resolution without a truth."""

from nstm.metrics.decorrelation import Decorrelation, decorrelation
from nstm.metrics.frc import fourier_ring_correlation, frc_resolution_um
from nstm.metrics.image import (
    equalise,
    limit,
    mse,
    psnr,
    psnr_equalised,
    psnr_plain,
    resample,
    ring_equalise,
    ssim,
)
from nstm.metrics.motion import endpoint_error
from nstm.metrics.structure import ms_ssim, scales_of

__all__ = [
    "Decorrelation",
    "decorrelation",
    "endpoint_error",
    "equalise",
    "fourier_ring_correlation",
    "frc_resolution_um",
    "limit",
    "ms_ssim",
    "mse",
    "psnr",
    "psnr_equalised",
    "psnr_plain",
    "resample",
    "ring_equalise",
    "scales_of",
    "ssim",
]
