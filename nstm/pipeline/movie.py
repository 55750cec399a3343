"""The rule `movie`: the side-by-side movie of a sample, what is to be seen in it, and a still figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nstm.io.jsonfile import write_json
from nstm.pipeline.panels import Shown, panels_of, time_note
from nstm.settings import Movie
from nstm.visual.figures import save_png, still
from nstm.visual.movie import movie
from nstm.visual.panels import Layout
from nstm.visual.series import Panel, frames_per_time, moments, place_in_series, shared_times
from nstm.visual.text import time_labels


def run_movie(
    params: Mapping[str, Any],
    files: Shown,
    out_mp4: str | Path,
    out_png: str | Path,
    out_json: str | Path | None = None,
) -> None:
    """Write the movie and the still figure of a sample.

    Args:
        params: settings of the stage (``sample``, ``movie``).
        files: stores of the sample; those named in ``movie.panels`` are shown, in that order, the truth last (left out
            where it cannot be read).
        out_mp4: the movie.
        out_png: the still figure.
        out_json: which frame shows which time, and where the panels lie, for the page.

    Raises:
        DataError: none of the wished panels is there, or a store cannot be read.
    """
    settings = Movie.model_validate(params["movie"])
    panels = panels_of(files, settings.panels, str(params["sample"].get("truth") or ""))
    note = time_note(panels)
    layout = movie(panels, Path(out_mp4), settings, time_note=note)
    figures = [panel for panel in panels if not panel.arrows] or panels
    save_png(still(figures, saturated_percent=settings.saturated_percent, time_note=note), Path(out_png))
    if out_json is not None:
        write_json(out_json, contents_of(panels, layout, settings, note))


def contents_of(panels: list[Panel], layout: Layout, settings: Movie, note: str = "") -> dict[str, Any]:
    """What is to be seen in a movie: its frames at the times of the results, and its panels, in pixels of the movie."""
    times = shared_times(panels)
    per_time = frames_per_time(panels, settings.frames_per_time)
    measured = [k for k, moment in enumerate(moments(times, per_time)) if moment.measured]
    labels = [
        " · ".join(filter(None, (stamp + note, place_in_series(panels, i))))
        for i, stamp in enumerate(time_labels(times))
    ]
    return {
        "frames_per_second": settings.frames_per_second * per_time,
        "size": list(layout.size),
        "times": [{"frame": frame, "label": label} for frame, label in zip(measured, labels, strict=True)],
        "panels": [{"name": panel.name, "box": [*layout.corner(i), *layout.picture]} for i, panel in enumerate(panels)],
    }
