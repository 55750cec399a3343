"""A recording described for a person, with or without the system that it is read as."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nstm.io.files import open_recording
from nstm.pipeline.inspect import inspect_sample
from nstm.pipeline.single import read_config, single_experiment
from nstm.pipeline.status import one_line


def describe_file(path: str, config: Path | None = None, system: str | None = None) -> tuple[str, bool]:
    """Lines of text about the headers of ``path``, and whether it can be used.

    Args:
        path: file, folder or glob.
        config: config whose system it is checked against; ``None``: only what the file says.
        system: a key of its ``systems:``.

    Raises:
        DataError: nothing there, or no recording.
    """
    if config is not None:
        with tempfile.TemporaryDirectory() as folder:
            row = {"path": path}
            experiment = single_experiment(read_config(config), config.absolute().parent, system, row, Path(folder))
            stage = experiment.stage(next(iter(experiment.samples)), "inspect")
            found = inspect_sample(stage.sample, stage.system)
        hidden = ("schema", "sample", "reasons", "files", "metadata", "optics", "raw_bytes")
        keys = [key for key in found if key not in hidden]
        lines = [f"{key}: {one_line(str(found[key]))}" for key in keys if found.get(key) is not None]
        lines += [f"{r['severity']}: {one_line(r['message'], 1000)}" for r in found["reasons"]]
        return "\n".join(lines), found["status"] != "fail"
    recording = open_recording(path)
    header = recording.headers[0]
    facts = {
        "files": len(recording.headers),
        "format": header.format,
        "axes": ", ".join(f"{a} = {n}" for a, n in recording.axes.items()) or "one plane",
        "plane": f"{header.plane_shape[0]} x {header.plane_shape[1]} {header.dtype.name}",
        "pixel": "not in the file" if header.pixel_um is None else "{:.5g} x {:.5g} um".format(*header.pixel_um),
        "distance of planes": "not in the file" if header.z_step_um is None else f"{header.z_step_um:.5g} um",
        "times": "not in the file" if header.plane_start_s is None else f"{header.plane_start_s.size} planes",
        "channels": ", ".join(header.channels) or "not named",
    }
    lines = [f"{name}: {one_line(str(fact))}" for name, fact in facts.items()]
    lines += [f"warn: {one_line(text, 1000)}" for text in header.warnings]
    lines += [f"  {one_line(k)}: {one_line(v)}" for k, v in header.metadata.items()]
    return "\n".join(lines), True
