"""A config and a sample sheet for a folder of recordings: what the files say, and a list of what they do not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nstm.acquisition import DataError
from nstm.io.files import open_recording
from nstm.io.protocol import Header, clean_text

_MOST_FILES = 10_000
_SKIPPED = ("results", "config", "simulated")

_CONFIG = """\
# Written by `nstm init` from the headers of {count} recording(s). Every key is explained in config/README.md.
# Lines with FILL IN cannot be known from the files; `nstm inspect FILE --config {config}` says what is still missing.
samples: samples.tsv

systems:
  microscope:
    kind: sim # FILL IN: one of {kinds}
    optics:
      na: # FILL IN: numerical aperture of the objective
      index: 1.518 # FILL IN: immersion (oil 1.518, water 1.333, air 1.0)
      emission_wavelength_um: # FILL IN: detected wavelength, um, e.g. 0.525
      excitation_wavelength_um: # FILL IN: laser, um, e.g. 0.488
      {pixel}
    camera:
      offset: 0 # FILL IN: counts of a dark frame, often 100
    illumination:
      angles: 3 # FILL IN
      phases: 3 # FILL IN
      beams: 2 # FILL IN: 3 for 3D patterns
    frames:
      order: # FILL IN: axes of the planes in the file, slowest first, e.g. t angle phase
      exposure_s: # FILL IN unless the files hold times: s

reconstruction:
  acquisitions_per_job: 8
"""


@dataclass(frozen=True)
class Found:
    """What was written, and what the user has to look at."""

    config: Path
    sheet: Path
    samples: int
    notes: list[str]


def write_experiment(folder: str | Path) -> Found:
    """Write ``config/config.yaml`` and ``config/samples.tsv`` into ``folder`` for the recordings below it.

    Raises:
        DataError: no such folder, no recording in it, or a config already there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    config, sheet = folder / "config" / "config.yaml", folder / "config" / "samples.tsv"
    for path in (config, sheet):
        if path.exists():
            raise DataError(f"{path} is there already and is not overwritten: move it away first")
    headers: list[Header] = []
    notes: list[str] = []
    for path in _files(folder):
        try:
            headers.append(open_recording(path).headers[0])
        except (DataError, OSError) as error:
            if path.suffix.lower() in (".tif", ".tiff"):
                notes.append(f"left out: {clean_text(error)}")
    if not headers:
        raise DataError(f"no recording was found in {folder}" + "".join(f"\n  - {note}" for note in notes))
    notes += _unknown(headers)
    config.parent.mkdir(exist_ok=True)
    sheet.write_text(_sheet(headers, config.parent), encoding="utf-8")
    config.write_text(_config(headers, config), encoding="utf-8")
    return Found(config, sheet, len(headers), notes)


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and not f.startswith(".") and ".zarr" not in f)
        for name in sorted(names):
            if name.startswith("."):
                continue
            count += 1
            if count > _MOST_FILES:
                raise DataError(f"{folder} holds more than {_MOST_FILES} files: name a smaller folder")
            yield Path(place) / name


def _sheet(headers: list[Header], start: Path) -> str:
    taken: set[str] = set()
    lines = ["sample\tpath\tsystem\tchannel"]
    for header in headers:
        stem = re.sub(r"(\.ome)?\.[^.]*$", "", header.path.name)
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._")[:80] or "sample"
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{re.sub(r'_[0-9]+$', '', name)}_{number}"
        taken.add(name.lower())
        lines.append(f"{name}\t{os.path.relpath(header.path, start)}\tmicroscope\t")
    return "\n".join(lines) + "\n"


def _config(headers: list[Header], config: Path) -> str:
    from nstm.systems.base import registered

    sizes = {h.pixel_um[0] for h in headers if h.pixel_um}
    if len(sizes) == 1 and all(h.pixel_um for h in headers):
        pixel = f"# pixel_um: read from the files ({sizes.pop():.4g})"
    else:
        pixel = "pixel_um: # FILL IN: camera pixel in the sample, um, e.g. 0.065"
    return _CONFIG.format(
        count=len(headers),
        config=config,
        kinds=", ".join(sorted(registered())),
        pixel=pixel,
    )


def _unknown(headers: list[Header]) -> list[str]:
    notes = ["optics (NA, index, wavelengths) and the illumination: FILL IN in the config"]
    notes.append("order of the frames: never guessed, FILL IN frames.order")
    shapes: dict[str, int] = {}
    for header in headers:
        axes = ", ".join(f"{a} = {n}" for a, n in header.axes.items()) or "one plane"
        shapes[axes] = shapes.get(axes, 0) + 1
    notes += [f"{count} recording(s) with planes {axes}" for axes, count in shapes.items()]
    if any(h.axes.get("C", 1) > 1 for h in headers):
        notes.append("several channels: one row per channel, named in the column `channel` (unless they are frames)")
    without = sum(h.plane_start_s is None for h in headers)
    if without:
        notes.append(
            f"{without} recording(s) hold no times: give frames.exposure_s and the delays, or they are assumed"
        )
    if any(h.pixel_um is None for h in headers):
        notes.append("not every recording holds its pixel size: FILL IN optics.pixel_um")
    if len({h.pixel_um for h in headers}) > 1:
        notes.append("recordings differ in pixel size: a system for each may be needed")
    return notes
