"""Figures of merit against a known truth: PSNR, SSIM, Fourier ring correlation, end-point error of motion."""

from nstm.metrics.frc import fourier_ring_correlation, frc_resolution_um
from nstm.metrics.image import (
    equalise,
    limit,
    psnr,
    psnr_equalised,
    psnr_plain,
    resample,
    ring_equalise,
    ssim,
)
from nstm.metrics.motion import endpoint_error

__all__ = [
    "endpoint_error",
    "equalise",
    "fourier_ring_correlation",
    "frc_resolution_um",
    "limit",
    "psnr",
    "psnr_equalised",
    "psnr_plain",
    "resample",
    "ring_equalise",
    "ssim",
]
