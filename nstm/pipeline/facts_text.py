"""The facts of ``inspect.json`` as aligned text for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nstm.io.jsonfile import plain
from nstm.io.protocol import OPTICS_RANGE
from nstm.pipeline.sizes import sizes_text
from nstm.pipeline.status import one_line
from nstm.pipeline.table import columns, section, wrapped
from nstm.visual.tables import size_text

#: Longer lists are cut; the JSON holds all.
MOST_LISTED, MOST_METADATA = 40, 8
_TIMES = {
    "read": "read from the file",
    "computed": "computed from exposure and delays of the config",
    "assumed": "assumed: equal steps, in the order of the frames; no real times",
    None: "not in the file",
}
_WAVES = ("excitation_wavelength_um", "emission_wavelength_um")
_ORDERS = {
    "config": "from the config",
    "file": "as the file labels its planes",
    "instrument": "usual for the instrument",
}


def file_text(found: Mapping[str, Any]) -> str:
    """The facts of one recording as a table; see :func:`nstm.pipeline.inspect.inspect_sample`."""
    lines = []
    if found["files"]:
        lines += section("file", columns(_file_rows(found)))
        lines += section("frames", columns(_frame_rows(found)))
        lines += section("times", columns(_time_rows(found["times"])))
        lines += section("sampling and optics", columns(_optics_rows(found)))
        lines += section("counts", columns(_count_rows(found)))
        lines += section("metadata", columns(_metadata_rows(found["metadata"])))
    lines += section("reasons", reason_lines(found["reasons"]))
    for needed, title in ((True, "missing"), (False, "may stay empty")):
        rows = [(m["key"], f"{m['what']}, e.g. {m['example']}") for m in found["missing"] if m["needed"] is needed]
        lines += section(title, columns(rows))
    disk = sizes_text(found.get("disk", {}))
    return "\n".join([*lines, *(["", disk] if disk else []), "", f"status: {found['status']}"]).lstrip("\n")


def experiment_text(samples: Sequence[Mapping[str, Any]]) -> str:
    """One line per sample, then all reasons and what is missing, then the totals."""
    head = ("sample", "status", "acq.", "axes", "order", "times", "files", "raw store")
    lines = columns([head, *map(_sample_row, samples)], indent=0)
    lines += section("reasons", [line for s in samples for line in reason_lines(s["reasons"], f"{s['sample']}: ")])
    missing = [(m["key"], f"{m['what']}, e.g. {m['example']}") for s in samples for m in s["missing"] if m["needed"]]
    lines += section("missing", columns(list(dict.fromkeys(missing))))
    states = [s["status"] for s in samples]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    read, stored = (size_text(sum(s.get(key, 0) for s in samples)) for key in ("bytes", "raw_bytes"))
    total = f"{_counted(len(samples), 'sample')} ({counts}); files {read}, raw stores {stored} before compression"
    disks = [s["disk"] for s in samples if s.get("disk")]
    if disks:
        stays, peak = (size_text(sum(d[key]["bytes_at_most"] for d in disks)) for key in ("stays", "peak"))
        files = sum(d["stays"]["files"] for d in disks)
        total += f"\nresults with raw stores: at most {stays} in {files} files, {peak} while it runs"
    return "\n".join([*lines, "", total])


def as_json_text(facts: Any) -> str:
    """The same facts as JSON; characters that a terminal could obey are escaped."""
    return json.dumps(plain(facts), indent=1, allow_nan=False)


def reason_lines(reasons: Sequence[Mapping[str, str]], start: str = "") -> list[str]:
    """Reasons as wrapped sentences; a table within one keeps its lines."""
    lines = []
    for reason in reasons:
        indented = ((line, len(line) - len(line.lstrip(" "))) for line in str(reason["message"]).splitlines())
        message = "\n".join(" " * indent + one_line(line, 2000) for line, indent in indented)
        lines += wrapped(message, f"  {start}{reason['severity']}: ", 4)
    return lines


def _sample_row(found: Mapping[str, Any]) -> tuple[str, ...]:
    sizes = found.get("sizes") or {}
    return (
        one_line(found["sample"], 30),
        found["status"],
        str(sizes.get("t", "-")),
        one_line(_axes(found.get("source_axes") or {}), 34) if found.get("files") else "-",
        found.get("order_origin") or "-",
        (found.get("times") or {}).get("origin") or "-",
        size_text(found["bytes"]) if "bytes" in found else "-",
        size_text(found["raw_bytes"]) if sizes else "-",
    )


def _file_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    files = found["files"]
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    rows = [
        ("path", one_line(files[0]["path"], 1000) + more),
        ("format", f"{found['format']}, {_counted(len(files), 'file')}, {size_text(found['bytes'])}"),
        ("axes", _axes(found["source_axes"])),
        ("plane", "{} x {} pixels, {}".format(*found["plane_shape"], found["dtype"])),
    ]
    if len(found["channels"]) > 1 or found["channels"][0]["name"]:
        rows.append(("channels", _channels(found["channels"])))
    if found["positions"]:
        rows.append(("positions", f"{_listed(found['positions'])}; looked at: {one_line(str(found['position']), 60)}"))
    return rows


def _channels(channels: Sequence[Mapping[str, Any]]) -> str:
    if not any(channel["name"] or len(channel) > 2 for channel in channels):
        return f"{len(channels)} without names"
    return _listed([_channel(channel, number) for number, channel in enumerate(channels)])


def _channel(channel: Mapping[str, Any], number: int) -> str:
    waves = [channel.get(name) for name in _WAVES]
    told = " to ".join(f"{1000 * wave:.0f}" for wave in waves if wave)
    name = one_line(str(channel["name"]), 40)
    return f"{number}{f': {name}' if name else ''}{f' ({told} nm)' if told else ''}"


def _frame_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    order = found.get("order")
    rows = [
        ("order", f"{order}, {_ORDERS[found['order_origin']]}" if order else "not in the file"),
        ("flips", ", ".join(found["flips"]) or "none"),
    ]
    if found.get("sizes"):
        dropped = found["dropped_planes"]
        more = f", {_counted(dropped, 'plane')} left over" if dropped else ""
        rows.append(("read as", _axes(found["sizes"])))
        rows.append(("acquisitions", f"{found['sizes']['t']} of {found['recorded_acquisitions']} recorded{more}"))
    return [*rows, ("raw store", f"{size_text(found['raw_bytes'])} before compression")]


def _time_rows(times: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = {
        "duration_s": "duration",
        "frame_interval_s": "frame to frame",
        "acquisition_interval_s": "start to start",
        "exposure_s": "exposure",
    }
    shown = names if times["origin"] != "assumed" else {}
    known = [(title, f"{times[name]:.6g} s") for name, title in shown.items() if times.get(name) is not None]
    return [("origin", _TIMES[times["origin"]]), *known]


def _optics_rows(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    values, origins = found["optics"], found["optics_origin"]
    one_of_several = len(found["channels"]) > 1 and found.get("channel") is None
    rows = []
    for name in ("pixel_um", "z_step_um", *OPTICS_RANGE):
        more = ", of the first channel" if one_of_several and origins.get(name) == "file" and name in _WAVES else ""
        stated = (f"{values[name]:.5g}", f"from the {origins[name]}{more}") if name in origins else ("-", "not stated")
        rows.append((name, *stated))
    return rows


def _count_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    counts = found["counts"]
    points = ("min", "min"), ("low", "0.1 %"), ("median", "median"), ("high", "99.9 %"), ("max", "max")
    rows = [
        ("range", ", ".join(f"{title} {_number(counts[name])}" for name, title in points)),
        ("looked at", _counted(len(counts["planes"]), "plane")),
    ]
    if counts["full_percent"] is not None:
        rows.append(("full", f"{counts['full_percent']:.3g} % of the pixels, at {counts['full_value']:g} or more"))
    if counts["bits"] is not None:
        rows.append(("bits used", f"{counts['bits']:g}, from 0.1 % to 99.9 %"))
    if counts["nan_percent"]:
        rows.append(("no number", f"{counts['nan_percent']:.3g} % of the pixels"))
    return rows


def _metadata_rows(metadata: Mapping[str, str]) -> list[tuple[str, str]]:
    rows = [(one_line(key, 30), one_line(value, 90)) for key, value in list(metadata.items())[:MOST_METADATA]]
    more = len(metadata) - MOST_METADATA
    return [*rows, ("...", f"{more} more with --json")] if more > 0 else rows


def _axes(axes: Mapping[str, int]) -> str:
    return ", ".join(f"{one_line(name, 20)} = {length}" for name, length in axes.items()) or "one plane"


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - MOST_LISTED} more" if len(items) > MOST_LISTED else ""
    return ", ".join(one_line(item, 80) for item in items[:MOST_LISTED]) + more


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
