"""Writes DeltaVision and MRC files byte by byte from their published header tables, apart from the reader."""

import struct
from pathlib import Path

import numpy as np

MODES = {"uint8": 0, "int16": 1, "float32": 2, "complex64": 4, "uint16": 6, "int32": 7}
SEQUENCES = {"CTZ": 0, "TZC": 1, "TCZ": 2}  # slowest first
#: Places of the numbers of the extended header.
TIME, STAGE_X, STAGE_Y, EXPOSURE, EXCITATION, EMISSION = 1, 2, 3, 8, 10, 11


def write_dv(
    path,
    planes,
    *,
    order="<",
    mode=None,
    waves=(525,),
    count_waves=None,
    times=1,
    sequence=0,
    pixel_um=0.08,
    z_step_um=0.125,
    intervals=(1, 1, 1),
    numbers=None,
    integers=8,
    titles=(),
):
    """Write ``planes`` (sections, y, x) as DeltaVision; ``numbers`` (sections, n) go into the extended header."""
    sections, y, x = planes.shape
    head = bytearray(1024)

    def put(place, code, *values):
        struct.pack_into(order + code, head, place, *values)

    put(0, "4i", x, y, sections, MODES[planes.dtype.name] if mode is None else mode)
    put(28, "3i", *intervals)
    put(40, "6f", pixel_um, pixel_um, z_step_um, 90, 90, 90)
    put(64, "3i", 1, 2, 3)
    put(76, "3f", *(float(abs(f(planes))) for f in (np.min, np.max, np.mean)))
    put(96, "h", -16224)
    put(128, "2h", integers, 32)
    put(180, "2h", times, sequence)
    put(196, "h", len(waves) if count_waves is None else count_waves)
    put(198, "5h", *[*waves, 0, 0, 0, 0, 0][:5])
    put(220, "i", len(titles))
    for number, title in enumerate(titles):
        put(224 + 80 * number, "80s", title)
    extended = b""
    if numbers is not None:
        table = np.zeros((sections, integers + 32), np.dtype("f4").newbyteorder(order))
        table[:, integers : integers + numbers.shape[1]] = numbers
        extended = table.tobytes()
        extended += bytes(-len(extended) % 1024)
        put(92, "i", len(extended))
    path.write_bytes(bytes(head) + extended + planes.astype(planes.dtype.newbyteorder(order)).tobytes())
    return path


def write_mrc(path, planes, *, order="<", mode=None, angstrom=(1.0, 1.0, 1.0), volume=True, extended=b"", stamp=None):
    """Write ``planes`` (sections, y, x) as MRC2014 with pixels of ``angstrom`` (x, y, z)."""
    sections, y, x = planes.shape
    head = bytearray(1024)
    intervals = (x, y, sections if volume else 1)
    struct.pack_into(order + "4i", head, 0, x, y, sections, MODES[planes.dtype.name] if mode is None else mode)
    struct.pack_into(order + "3i", head, 28, *intervals)
    struct.pack_into(order + "3f", head, 40, *(a * n for a, n in zip(angstrom, intervals, strict=True)))
    struct.pack_into(order + "3i", head, 64, 1, 2, 3)
    struct.pack_into(order + "2i", head, 88, int(volume), len(extended))
    head[208:212] = b"MAP "
    head[212:216] = (b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0") if stamp is None else stamp
    path.write_bytes(bytes(head) + extended + planes.astype(planes.dtype.newbyteorder(order)).tobytes())
    return path


def section_numbers(sections, *, step_s=0.05, exposure_s=0.01, excitation_nm=488, emission_nm=525):
    """Numbers of the extended header of ``sections`` recorded one after another, the stage at rest."""
    numbers = np.zeros((sections, 14))
    numbers[:, TIME] = 3 + step_s * np.arange(sections)
    numbers[:, [STAGE_X, STAGE_Y]] = 1200.5, -340.25
    numbers[:, EXPOSURE] = exposure_s
    numbers[:, EXCITATION], numbers[:, EMISSION] = excitation_nm, emission_nm
    return numbers


def example(folder: Path) -> Path:
    """A small recording of two acquisitions of 3 orientations x 3 phases, 16 x 24 pixels, with times."""
    planes = np.random.default_rng(0).integers(100, 4000, (18, 16, 24)).astype(np.uint16)
    return write_dv(
        folder / "example.dv", planes, times=2, numbers=section_numbers(18), titles=(b"written for a test",)
    )
