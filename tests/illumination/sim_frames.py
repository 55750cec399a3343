"""Frames simulated with the formula of the calibration, written out independently of the package's model."""

import json
import struct
from pathlib import Path

import numpy as np
import tifffile

OPTICS = {"pixel_um": 0.065, "na": 1.4, "emission_wavelength_um": 0.515}


def degrees(phase):
    """Phase difference wrapped to -180..180 degrees."""
    return np.degrees(np.angle(np.exp(1j * np.asarray(phase))))


def dots(shape, count, rng):
    """Scene of single emitters on a 2 x finer grid."""
    scene = np.zeros((2 * shape[0], 2 * shape[1]))
    np.add.at(scene, (rng.integers(0, scene.shape[0], count), rng.integers(0, scene.shape[1], count)), 1.0)
    return scene


def lit_frames(scene, vectors, phases, modulation, rng, photons=200.0, intensity=None, optics=None):
    """Camera frames (angle, phase, y, x) of a periodic scene: pattern, OTF, pixel, sampling, photons."""
    optics = optics or OPTICS
    pitch = optics["pixel_um"] / 2
    y, x = (np.arange(n) * pitch for n in scene.shape)
    fy, fx = np.fft.fftfreq(scene.shape[0], pitch)[:, None], np.fft.fftfreq(scene.shape[1], pitch)[None, :]
    q = np.minimum(np.hypot(fy, fx) * optics["emission_wavelength_um"] / (2 * optics["na"]), 1)
    otf = 2 / np.pi * (np.arccos(q) - q * np.sqrt(1 - q * q))
    otf *= np.sinc(fy * optics["pixel_um"]) * np.sinc(fx * optics["pixel_um"])
    frames = []
    for a, k in enumerate(vectors):
        for p, phase in enumerate(phases[a]):
            wave = 2 * np.pi * (k[0] * y[:, None] + k[1] * x[None, :]) + phase
            pattern = 1 + sum(m * np.cos(o * wave) for o, m in enumerate(modulation[a], 1))
            level = 1.0 if intensity is None else intensity[a][p]
            frames.append(level * np.fft.ifft2(np.fft.fft2(scene * pattern) * otf).real[::2, ::2])
    clean = np.array(frames).reshape(len(vectors), -1, *frames[0].shape)
    clean *= photons / np.quantile(clean.mean((0, 1)), 0.999)
    return rng.poisson(np.maximum(clean, 0)).astype(np.float32)


def vectors_at(length, angles_rad):
    return np.array([[length * np.sin(a), length * np.cos(a)] for a in angles_rad])


def load_case(folder: Path, name: str):
    """Frames, parameters and truth (ky, kx of order 1; phases; modulation) of a simulated case."""
    about = json.loads((folder / "sim" / f"{name}.json").read_text())
    frames = tifffile.imread(folder / "sim" / f"{name}_raw.tif").astype(np.float32) - about["offset"]
    orders = about["beams"] - 1
    k = np.array(about["k"])[:, ::-1] / orders
    modulation = np.array([about["mods"]] + ([about["mods2"]] if orders == 2 else [])).T
    optics = {"pixel_um": about["px"], "na": about["na"], "emission_wavelength_um": about["lam_em"]}
    frames = frames.reshape(len(k), -1, *frames.shape[-2:])
    return frames, optics, about["beams"], k, np.array(about["phases"]), modulation


def read_mrc(path: Path):
    data = path.read_bytes()
    nx, ny, nz = struct.unpack("<3i", data[:12])
    extended = struct.unpack("<i", data[92:96])[0]
    values = np.frombuffer(data, "<u2", offset=1024 + extended, count=nx * ny * nz)
    return values.reshape(3, 3, ny, nx).astype(np.float32)


STACK_OPTICS = OPTICS | {"pixel_um": 0.08, "index": 1.518, "excitation_wavelength_um": 0.488, "z_step_um": 0.125}


def _defocused(shape, depth):
    """|amplitude|^2 of an aplanatic pupil at every plane, as transfer (z, y, x) on a grid of half a camera pixel."""
    o, pitch = STACK_OPTICS, STACK_OPTICS["pixel_um"] / 2
    fy, fx = np.fft.fftfreq(shape[0], pitch)[:, None], np.fft.fftfreq(shape[1], pitch)[None, :]
    wave = o["index"] / o["emission_wavelength_um"]
    axial = np.sqrt(np.maximum(wave**2 - fy**2 - fx**2, 1e-6))
    pupil = (np.hypot(fy, fx) < o["na"] / o["emission_wavelength_um"]) / np.sqrt(axial / wave)
    z = np.fft.fftfreq(depth, 1 / depth) * o["z_step_um"]
    spread = np.stack([np.abs(np.fft.ifft2(pupil * np.exp(2j * np.pi * d * axial))) ** 2 for d in z])
    pixel = np.sinc(fy * o["pixel_um"]) * np.sinc(fx * o["pixel_um"])
    return z, np.fft.fft2(spread) * pixel / spread[0].sum()


def lit_stack(scene, vectors, phases, modulation, keep, axial_phase=0.0):
    """Noise-free planes ``keep`` (angle, phase, z, y, x) of a periodic scene (z, 2 y, 2 x) under three beams.

    The pattern rests in the focal plane: order 1 varies along z as ``cos(2 pi kappa (z - focus) + axial phase)``.
    """
    o, pitch = STACK_OPTICS, STACK_OPTICS["pixel_um"] / 2
    z, transfer = _defocused(scene.shape[1:], len(scene))
    y, x = (np.arange(n) * pitch for n in scene.shape[1:])
    frames = []
    for a, k in enumerate(vectors):
        wave = o["index"] / o["excitation_wavelength_um"]
        kappa = wave - np.sqrt(wave**2 - k @ k)
        plain = np.fft.fft(transfer, axis=0)
        striped = np.fft.fft(transfer * np.cos(2 * np.pi * kappa * z - axial_phase)[:, None, None], axis=0)
        for phase in phases[a]:
            q = 2 * np.pi * (k[0] * y[:, None] + k[1] * x[None, :]) + phase
            flat = np.fft.fftn(scene * (1 + modulation[a][1] * np.cos(2 * q))) * plain
            seen = flat + np.fft.fftn(scene * modulation[a][0] * np.cos(q)) * striped
            frames.append(np.fft.ifftn(seen).real[keep, ::2, ::2])
    return np.array(frames).reshape(len(vectors), -1, *frames[0].shape)
