"""The file of a network of UBSIM, in the safetensors format: what it says of itself, and its arrays.

It is read without the engine, so that a config that names one is soon checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from nstm.acquisition import DataError
from nstm.settings import Section

Mode = Literal["stacked", "per_frame"]

SCHEMA = "ubsim-1"
#: Where the file says it.
KEY = "ubsim"


class About(Section):
    """What a network is, and what it was trained on."""

    schema_: Annotated[Literal["ubsim-1"], Field(alias="schema")]
    mode: Mode
    frames: Annotated[int | None, Field(ge=3, le=200)]
    width: Annotated[int, Field(ge=1, le=128)]
    blocks: Annotated[int, Field(ge=1, le=50)]
    card: dict[str, Any]

    @model_validator(mode="after")
    def _frames_of_mode(self) -> About:
        if (self.frames is None) != (self.mode == "per_frame"):
            raise ValueError(f"frames = {self.frames} does not suit mode = {self.mode}")
        return self


def read_network(path: str | Path) -> tuple[About, dict[str, np.ndarray]]:
    """What a file says of its network, and the arrays by their names.

    Raises:
        DataError: no such file, no network of UBSIM, or arrays that are not finite float32.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise DataError(f"{path}: there is no such file of weights; train a network with `nstm train-blind`")
    try:
        with safe_open(str(path), framework="numpy") as file:
            text, names = (file.metadata() or {}).get(KEY), list(file.keys())
            other = [name for name in names if file.get_slice(name).get_dtype() != "F32"]
            arrays = {name: file.get_tensor(name) for name in names if name not in other}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a file of weights in the safetensors format ({error})") from None
    if text is None:
        raise DataError(f"{path}: holds no network of UBSIM ({SCHEMA})")
    try:
        about = About.model_validate_json(text, strict=True)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or KEY}: {e['msg']}" for e in error.errors())
        raise DataError(f"{path}: holds no network of UBSIM ({SCHEMA}) that can be used: {wrong}") from None
    other += [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if other:
        raise DataError(
            f"{path}: the arrays {', '.join(sorted(other)[:5])} are not finite numbers of 32 bits (float32): take "
            "the file as `nstm train-blind` wrote it"
        )
    return about, arrays
