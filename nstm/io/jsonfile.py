"""JSON results: written whole or not at all, with everything that is not a finite number as ``null``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nstm.acquisition import DataError
from nstm.io.whole import replace_whole


def plain(value: Any) -> Any:
    """``value`` with numpy numbers, arrays and paths made plain and NaN or infinity made ``None``.

    Raises:
        TypeError: a value has no JSON form.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` to ``path`` in one step (a killed job leaves the old file or none)."""
    text = json.dumps(plain(obj), indent=1, allow_nan=False, ensure_ascii=False)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replace_whole(target) as temporary:
        Path(temporary).write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """What :func:`write_json` wrote.

    Raises:
        DataError: the file is absent or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: run the step that makes it first") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not a whole JSON file ({error}): delete it and run again") from error
