"""The demo's recordings: files that stand in a folder ``simulated`` and are made where they are missing."""

from __future__ import annotations

from pathlib import Path

#: Folder whose files the workflow makes itself.
FOLDER = "simulated"
RAW_SUFFIX = ".ome.tif"
TRUTH_SUFFIX = "_truth.ome.zarr"


def cases() -> tuple[str, ...]:
    """Names of the cases that can be simulated."""
    from nstm.simulate.demo import CASES

    return tuple(CASES)


def case_of(path: str | Path) -> str | None:
    """The case whose recording or truth ``path`` is, else ``None``."""
    path = Path(path)
    if path.parent.name != FOLDER:
        return None
    for suffix in (RAW_SUFFIX, TRUTH_SUFFIX):
        if path.name.endswith(suffix) and path.name.removesuffix(suffix) in cases():
            return path.name.removesuffix(suffix)
    return None


def run_simulate(case: str, out_tif: str | Path, out_truth: str | Path) -> None:
    """Write the raw file of one case and its truth, each whole or not at all.

    Args:
        case: one of :func:`cases`.
        out_tif: OME-TIFF to write.
        out_truth: time-lapse store of the truth to write.
    """
    from nstm.simulate.demo import simulate_case

    simulate_case(case, Path(out_tif), Path(out_truth))
