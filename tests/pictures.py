"""Pictures of everything that people look at, for people to look at: ``make pictures``.

Movies and figures come from the results of the demo, variants of them from its stores and from simulated truths, the
screenshots from its page.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import xarray as xr
from PIL import Image
from scipy import ndimage

from nstm.io.store import open_timelapse
from nstm.pipeline.panels import Shown, panels_of
from nstm.pipeline.simulate import RAW_SUFFIX, TRUTH_SUFFIX, run_simulate
from nstm.settings import Movie
from nstm.visual.figures import save_png, still
from nstm.visual.movie import movie
from nstm.visual.series import Outline, Panel
from tests import browser

#: Windows of the screenshots: width, height, pixels per CSS pixel, dark.
WINDOWS = {
    "desktop": (1280, 900, 1.0, False),
    "desktop_dark": (1280, 900, 1.0, True),
    "phone": (390, 844, 2.0, False),
    "phone_dark": (390, 844, 2.0, True),
}


def main() -> None:
    """Write all pictures into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="results folder of the demo")
    parser.add_argument("out", type=Path, help="folder to write")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sample = given.results / "er_moving"
    for name, panels in variants(sample).items():
        stills_of(name, panels, given.out)
    for path in sorted((sample / "figures").glob("*.png")):
        shutil.copy(path, given.out / f"figure_{path.name}")
    shutil.copy(sample / "quality.png", given.out / "figure_quality.png")
    screenshots(given.results / "report.html", given.out)
    print("\n".join(sorted(str(path) for path in given.out.glob("*.png"))))


def variants(sample: Path) -> dict[str, list[Panel]]:
    """Panels of every kind of movie, by name."""
    stores = {n: sample / "timelapse" / f"{n}.ome.zarr" for n in ("widefield", "conventional", "nstm", "static")}
    truth = sample.parents[1] / "simulated" / f"{sample.name}{TRUTH_SUFFIX}"
    files = Shown(stores, sample / "timelapse" / "motion.ome.zarr", sample / "trust.json", truth)
    usual = panels_of(files, ["widefield", "conventional", "nstm"])
    everything = panels_of(files, ["widefield", "conventional", "nstm", "motion", "static"])
    field = usual[0].images.sizes["x"] * float(usual[0].images.attrs["pixel_um"])
    corners = field * np.array([[0.25, 0.4], [0.2, 0.55], [0.3, 0.7], [0.45, 0.65], [0.42, 0.45]])
    every = frozenset(range(usual[0].images.sizes["t"]))
    lost = [
        replace(p, outlines=(Outline(corners, every), Outline(field - corners, every, "?")))
        if p.displacement is not None
        else p
        for p in usual
    ]
    wide = [replace(p, images=strip(p.images), displacement=None) for p in usual[:3]]
    return {
        "usual": usual,
        "everything": everything,
        "lost_region": lost,
        "wide": wide,
        "stack": simulated("sim3d_small", "stack"),
        "phase": simulated("dpc_small", "phase"),
        "colour": simulated("diffusercam_colour", "colour"),
    }


def strip(images: xr.DataArray) -> xr.DataArray:
    """A wide part of the field."""
    return images.isel(y=slice(0, images.sizes["y"] // 3))


def simulated(case: str, name: str) -> list[Panel]:
    """The truth of a simulated case, and the same blurred."""
    with tempfile.TemporaryDirectory() as folder:
        raw, store = Path(folder) / f"{case}{RAW_SUFFIX}", Path(folder) / f"{case}{TRUTH_SUFFIX}"
        run_simulate(case, raw, store)
        images = open_timelapse(store).load()
    width = (0, 0, 1.5 if name == "stack" else 0, 3, 3)
    blurred = images.copy(data=ndimage.gaussian_filter(images.values, width))
    return [Panel("truth, blurred", blurred), Panel("truth", images)]


def stills_of(name: str, panels: list[Panel], out: Path) -> None:
    """A movie, some frames of it read back from the file, and its still figure."""
    movie(panels, out / f"movie_{name}.mp4", Movie())
    reader = imageio_ffmpeg.read_frames(str(out / f"movie_{name}.mp4"))
    size = next(reader)["size"]
    frames = [Image.frombytes("RGB", size, frame) for frame in reader]
    middle = len(frames) // 2 // 3 * 3
    for label, index in (("first", 0), ("measured", middle), ("between", middle + 1)):
        frames[min(index, len(frames) - 1)].save(out / f"movie_{name}_{label}.png")
    save_png(still([panel for panel in panels if not panel.arrows]), out / f"still_{name}.png")


def screenshots(page: Path, out: Path) -> None:
    """The page in windows of several sizes and colours; none where there is no browser."""
    program = browser.find()
    if program is None:
        print("no screenshots: there is no Chromium (.ci/browser-packages installs it)")
        return
    with browser.browser(program) as opened:
        for name, (width, height, scale, dark) in WINDOWS.items():
            opened.look(width, height, dark=dark, scale=scale)
            opened.open(page)
            opened.until("document.querySelector('video').readyState >= 2")
            opened.screenshot(out / f"page_{name}.png")
            opened.evaluate("document.querySelector('.player').scrollIntoView()")
            opened.screenshot(out / f"page_{name}_player.png")
            opened.evaluate("document.querySelector('.figures').scrollIntoView()")
            opened.until("[...document.images].every((i) => { i.loading = 'eager'; return i.complete; })")
            opened.screenshot(out / f"page_{name}_figures.png")


if __name__ == "__main__":
    main()
