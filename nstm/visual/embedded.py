"""What stands in the page itself: pictures and a movie per sample, small enough that many samples fit into one page."""

from __future__ import annotations

import base64
import os
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from nstm.visual import tables
from nstm.visual.preview import MOVIE_BYTES, figure_shares, small_movie, small_picture
from nstm.visual.tables import listing, mapping, number, one_line

if TYPE_CHECKING:
    from nstm.visual.report import Evidence

#: Figures that the page shows of a sample; the folder beside it holds all.
MOST_FIGURES = 12
#: Width over height from which a figure takes the whole width of the page.
_WIDE = 2.0


def picture_view(evidence: Evidence, name: Literal["still", "quality"], most_bytes: int) -> str | None:
    """A picture of a sample as a data URI, or ``None``."""
    path: Path | None = getattr(evidence, name)
    return None if path is None else _uri_of(evidence, path, f"{name} picture", most_bytes)


def figure_views(evidence: Evidence, page_folder: Path) -> list[dict[str, Any]]:
    """The figures with their captions, each linked to its file."""
    given = [f for f in evidence.figures if f[0].is_file()][:MOST_FIGURES]
    views = []
    for (path, title, caption), most_bytes in zip(given, figure_shares([f[0] for f in given]), strict=True):
        uri = _uri_of(evidence, path, "figure", most_bytes)
        if uri is not None:
            texts = {"title": one_line(title, 120), "caption": one_line(caption, 600)}
            with Image.open(path) as picture:
                size = picture.size
            wide = size[0] > _WIDE * size[1]
            views.append({"uri": uri, "link": relative_link(path, page_folder), "size": size, "wide": wide, **texts})
    return views


def _uri_of(evidence: Evidence, path: Path, name: str, most_bytes: int) -> str | None:
    """The small copy where there is one, else one made here."""
    for kind in ("webp", "png"):
        copy = None if evidence.small is None else evidence.small / f"{path.stem}.{kind}"
        if copy is not None and copy.is_file() and copy.stat().st_size <= most_bytes:
            return f"data:image/{kind};base64,{base64.b64encode(copy.read_bytes()).decode('ascii')}"
    try:
        kind, data = small_picture(path, most_bytes)
    except (OSError, ValueError) as error:
        evidence.problems[name] = str(error)
        return None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def movie_view(evidence: Evidence, page_folder: Path) -> dict[str, Any] | None:
    """Where the movie is: embedded where small, always linked; and what is to be seen in it."""
    if evidence.movie is None:
        return None
    link = relative_link(evidence.movie, page_folder)
    size = evidence.movie.stat().st_size
    copy = None if evidence.small is None else evidence.small / "movie.mp4"
    made = copy is not None and copy.is_file() and 0 < copy.stat().st_size <= MOVIE_BYTES
    if made and copy is not None:
        data: bytes | None = copy.read_bytes()
    else:  # where the figures were drawn without a copy, none is small enough
        data = small_movie(evidence.movie, MOVIE_BYTES) if evidence.small is None else None
    source = link if data is None else f"data:video/mp4;base64,{base64.b64encode(data).decode('ascii')}"
    kind = "Movie" if size <= MOVIE_BYTES or data is None else "Preview of the movie"
    contents = contents_of(evidence.contents)
    return {"link": link, "source": source, "size": tables.size_text(size), "kind": kind, "contents": contents}


def contents_of(found: Any) -> dict[str, Any] | None:
    """What ``movie.json`` says, checked and bounded; ``None`` where it cannot drive a slider."""
    block = mapping(found)
    size = [number(v) for v in listing(block.get("size"))]
    times = [(number(mapping(t).get("frame")), one_line(str(mapping(t).get("label", "")), 120))
             for t in listing(block.get("times"))]  # fmt: skip
    panels = [(one_line(str(mapping(p).get("name", "")), 60), [number(v) for v in listing(mapping(p).get("box"))])
              for p in listing(block.get("panels"))]  # fmt: skip
    rate = number(block.get("frames_per_second"))
    whole = len(size) == 2 and all(size) and all(len(box) == 4 and None not in box for _, box in panels)
    if not (rate and rate > 0 and whole and len(times) > 1 and panels and all(f is not None for f, _ in times)):
        return None
    return {
        "frames_per_second": rate,
        "size": size,
        "times": [{"frame": frame, "label": label} for frame, label in times],
        "panels": [{"name": name, "box": box} for name, box in panels],
    }


def relative_link(target: Path, page_folder: Path) -> str:
    """A link that works when page and results are moved together; never a scheme of its own."""
    path = os.path.relpath(target.resolve(), page_folder.resolve())
    return "./" + urllib.parse.quote(Path(path).as_posix())
