"""The frames of a movie: what every panel shows at a moment, with scale bar, depth, arrows and what not to believe."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from nstm.acquisition import channels_of, in_colour
from nstm.settings import Movie
from nstm.visual.arrows import draw_arrows, draw_wheel, enlargement, in_plane
from nstm.visual.between import between
from nstm.visual.colour import ACCENT, depth_colours, srgb_from_linear
from nstm.visual.panels import (
    Layout,
    colours_of,
    depth_to_rgb,
    draw_frame,
    empty_panel,
    intensity_range,
    meaning,
    picture_of,
    shown_volumes,
    to_rgb,
)
from nstm.visual.series import Moment, Panel, block_of, frames_per_time, moments, place_in_series, shared_times
from nstm.visual.text import draw_scale_bar, draw_text, length_label, time_labels

#: Brightness of the structure below arrows.
_DIMMED = 0.55


def movie_frames(panels: list[Panel], layout: Layout, settings: Movie, *, time_note: str = "") -> Iterator[np.ndarray]:
    """The frames ``(height, width, 3)`` uint8 of a movie, each read only when it is drawn.

    Args:
        panels: on the same times.
        layout: where they stand.
        settings: frames per time, saturation, depth.
        time_note: stands behind the time stamp.
    """
    per_time = frames_per_time(panels, settings.frames_per_time)
    shown = moments(shared_times(panels), per_time)
    stamps = stamps_of(panels, settings, time_note)
    painters = [Painter(panel, layout, settings) for panel in panels]
    note = display_note(panels, settings)
    footnotes = [painter.footnote for painter in painters]
    for moment, stamp in zip(shown, stamps, strict=True):
        pictures = [painter.picture(moment) for painter in painters]
        at = moment.index if moment.measured else moment.index - 1
        block = block_of(panels, at)
        marks = [moment.measured and painter.has_result(at) for painter in painters]
        yield np.asarray(
            draw_frame(
                layout,
                pictures,
                [panel.name for panel in panels],
                footnotes,
                stamp,
                note,
                measured=marks if per_time > 1 else None,
                block=None if block is None else (block[1], block[2]),
            )
        )


def stamps_of(panels: Sequence[Panel], settings: Movie, time_note: str = "") -> list[str]:
    """What stands at the lower left of every frame of a movie: the time, and its place in the series."""
    shown = moments(shared_times(panels), frames_per_time(panels, settings.frames_per_time))
    places = [place_in_series(panels, m.index) if m.measured else "between two times" for m in shown]
    stamps = time_labels([moment.time_s for moment in shown])
    return [
        " · ".join(part for part in (stamp + time_note, place) if part)
        for stamp, place in zip(stamps, places, strict=True)
    ]


class Painter:
    """Draws one panel at any moment, with one intensity range for all of them.

    Args:
        panel: what is shown.
        layout: size of the picture and of its text.
        settings: saturation, and whether volumes are coloured by depth.
    """

    def __init__(self, panel: Panel, layout: Layout, settings: Movie) -> None:
        self.panel, self.size, self.text_px = panel, layout.picture, layout.text_px
        self.limits = intensity_range(panel.images, settings.saturated_percent)
        self.colours = colours_of(panel.images)
        self.by_depth = shows_depth(panel, settings)
        self.pixel_um = float(panel.images.attrs["pixel_um"])
        self.um_per_px = self.pixel_um * panel.images.sizes["x"] / self.size[0]
        self._last: tuple[int, Image.Image] | None = None
        self._shown = functools.lru_cache(maxsize=3)(functools.partial(shown_volumes, panel.images))
        self._moved = functools.lru_cache(maxsize=2)(panel.moved)
        self.enlarged, self.longest_um = enlargement(panel, self.um_per_px, self.size) if panel.arrows else (1.0, 0.0)

    @property
    def footnote(self) -> str:
        """What stands below the panel."""
        arrows = ""
        if self.panel.arrows:
            arrows = "no displacement is determined"
            if self.longest_um:
                longest = length_label(float(f"{self.longest_um:.2g}"))
                arrows = f"since the previous time; longest {longest}, drawn {self.enlarged:g} times as long"
        return "; ".join(filter(None, (meaning(self.panel.images, self.limits), arrows, self.panel.footnote)))

    def has_result(self, time_index: int) -> bool:
        """Whether the panel has a result at a time."""
        return bool(np.isfinite(self._shown(time_index)).any())

    def picture(self, moment: Moment) -> Image.Image:
        """The panel at a moment; between two times what was there before, unless it can be carried along."""
        at = moment.index if moment.measured else moment.index - 1
        if self._last is not None and not moment.measured and self._last[0] == at and not self._carries(moment.index):
            return self._last[1]
        picture = self._drawn(moment, at)
        if moment.measured:
            self._last = (at, picture)
        return picture

    def _drawn(self, moment: Moment, at: int) -> Image.Image:
        volumes, carried = self._at(moment)
        if not np.isfinite(volumes).any():
            return empty_panel(self.size, self.panel.reason(at), self.text_px)
        if self.by_depth:
            picture = depth_to_rgb(volumes[0], self.limits, self.size)
            _draw_depth(picture, self._depth_um(), self.text_px)
        else:
            picture = to_rgb(picture_of(volumes), self.limits, self.size, colours=self.colours)
        at = moment.index if carried else at
        if self.panel.arrows:
            picture = picture.point([round(v * _DIMMED) for v in range(256)] * 3)
            moved = self._moved(at)
            if moved is not None:
                draw_arrows(
                    picture, in_plane(moved, self._shown(at).mean(axis=0)), self.um_per_px / self.enlarged, self.text_px
                )
            draw_wheel(picture, self.text_px)
        for region in self.panel.outlined(at):
            draw_outline(picture, region.corners_um / self.um_per_px, region.mark, self.text_px)
        draw_scale_bar(picture, self.um_per_px, self.text_px)
        return picture

    def _at(self, moment: Moment) -> tuple[np.ndarray, bool]:
        """What is shown, ``(c, z, y, x)``, and whether it was carried along from the time before."""
        if moment.measured:
            return self._shown(moment.index), False
        before, after = self._shown(moment.index - 1), self._shown(moment.index)
        moved = self._moved(moment.index)
        if moved is None or not self._carries(moment.index):
            return before, False
        step = float(self.panel.images.attrs.get("z_step_um") or 1.0)
        pitch = np.array([step, self.pixel_um, self.pixel_um][-len(moved) :]).reshape(-1, 1, 1, 1)
        pairs = zip(before, after, strict=True)
        return np.stack([between(b, a, moved / pitch, moment.share) for b, a in pairs]), True

    def _carries(self, time_index: int) -> bool:
        """Whether the panel is carried along from the time before to this one."""
        return self._moved(time_index) is not None and self.has_result(time_index - 1) and self.has_result(time_index)

    def _depth_um(self) -> float | None:
        step = self.panel.images.attrs.get("z_step_um")
        return None if not step else float(step) * (self.panel.images.sizes["z"] - 1)


def shows_depth(panel: Panel, settings: Movie) -> bool:
    """Whether a panel is coloured by depth: volumes of brightness, unless the settings or arrows forbid."""
    grey = colours_of(panel.images) == "gray"
    return settings.depth_colours and grey and panel.images.sizes["z"] > 1 and not panel.arrows


def draw_outline(picture: Image.Image, corners_px: np.ndarray, mark: str, text_px: int) -> None:
    """Outline a region with its mark, edged so that it shows on bright structure."""
    line = [(float(x), float(y)) for y, x in (*corners_px, corners_px[0])]
    draw, width = ImageDraw.Draw(picture), max(2, round(text_px / 7))
    draw.line(line, fill=(0, 0, 0), width=width + 2, joint="curve")
    draw.line(line, fill=ACCENT, width=width, joint="curve")
    top = min(line, key=lambda point: point[1])
    room = top[1] > 1.3 * text_px
    place = (top[0], top[1] - 0.3 * text_px) if room else (top[0], max(y for _, y in line) + 0.3 * text_px)
    draw_text(picture, place, mark, text_px, ACCENT, anchor="mb" if room else "mt", bold=True, outline=(0, 0, 0))


def _draw_depth(picture: Image.Image, depth_um: float | None, text_px: int) -> None:
    """A bar with the colours of the depths, first plane at the top, in the upper left corner."""
    high, wide, margin = round(picture.height * 0.22), max(4, round(text_px * 0.5)), round(0.8 * text_px)
    tones = np.round(255 * srgb_from_linear(depth_colours(high))).astype(np.uint8)
    frame = [margin - 1, margin - 1, margin + wide, margin + high]
    ImageDraw.Draw(picture).rectangle(frame, outline=(0, 0, 0))
    picture.paste(Image.fromarray(np.repeat(tones[:, None], wide, axis=1)), (margin, margin))
    last = "last plane" if depth_um is None else f"z = {length_label(float(f'{depth_um:.3g}'))}"
    first = "first plane" if depth_um is None else "z = 0"
    for text, y, anchor in ((first, margin, "lt"), (last, margin + high, "lb")):
        place = (margin + wide + 0.4 * text_px, y)
        draw_text(picture, place, text, round(text_px * 0.85), (255, 255, 255), anchor=anchor, outline=(0, 0, 0))


def display_note(panels: Sequence[Panel], settings: Movie) -> str:
    """How intensities are displayed, in words."""
    coloured = any(shows_depth(panel, settings) for panel in panels)
    projection = "maximum projection along z, " if any(p.images.sizes["z"] > 1 for p in panels) else ""
    kind = "brightness, colour: depth" if coloured else shown_in(panels)
    note = (
        f"{projection}linear {kind} (gamma 1), one range per panel over all times, "
        f"{settings.saturated_percent:g} % saturated at each end"
    )
    return (
        note if frames_per_time(panels, settings.frames_per_time) == 1 else f"● time of a result, ○ between two; {note}"
    )


def shown_in(panels: Sequence[Panel]) -> str:
    """``grey``, or ``colours`` where a panel has some."""
    grey = all(colours_of(p.images) == "gray" and not in_colour(channels_of(p.images)) for p in panels)
    return "grey" if grey else "colours"
