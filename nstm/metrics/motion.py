"""How far an estimated displacement is from the true one."""

from __future__ import annotations

import numpy as np

from nstm.acquisition import DataError
from nstm.metrics.image import Image


def endpoint_error(estimated: Image, truth: Image, weight: Image | None = None, axis: int = 0) -> dict[str, float]:
    """Length of the difference of two displacement fields, where both are known.

    Args:
        estimated: displacement with its components (y, x) along ``axis``; NaN where not determined.
        truth: the same shape and unit.
        weight: without ``axis``; places count in proportion (e.g. the brightness); default: all alike.
        axis: the axis of the components.

    Returns:
        ``mean``, ``rms``, ``median`` (unweighted), ``max`` in the unit of the input, and ``known``, the
        share of the weight at which both are known. Figures are NaN where nothing is known.

    Raises:
        DataError: shapes differ.
    """
    if estimated.shape != truth.shape:
        raise DataError(f"displacements have shapes {estimated.shape} and {truth.shape}: they must be the same")
    error = np.sqrt(np.sum((np.asarray(estimated, np.float64) - truth) ** 2, axis=axis))
    share = np.ones(error.shape) if weight is None else np.broadcast_to(weight, error.shape).astype(np.float64)
    known = np.isfinite(error) & (share > 0)
    total = float(share.sum())
    if not known.any():
        return {"mean": np.nan, "rms": np.nan, "median": np.nan, "max": np.nan, "known": 0.0}
    e, w = error[known], share[known]
    return {
        "mean": float(np.average(e, weights=w)),
        "rms": float(np.sqrt(np.average(e**2, weights=w))),
        "median": float(np.median(e)),
        "max": float(e.max()),
        "known": float(w.sum() / total),
    }
