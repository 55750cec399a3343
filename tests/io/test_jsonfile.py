"""JSON results: finite, plain, whole."""

from pathlib import Path

import numpy as np
import pytest

from nstm.acquisition import DataError
from nstm.io.jsonfile import read_json, write_json


def test_numbers_of_every_kind(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(
        path,
        {
            "nan": float("nan"),
            "inf": np.float32(np.inf),
            "array": np.array([[1.5, np.nan]]),
            "int": np.int64(3),
            "bool": np.bool_(True),
            "path": Path("x"),
            "tuple": (1, None),
            4: "µm <script>",
        },
    )
    assert read_json(path) == {
        "nan": None,
        "inf": None,
        "array": [[1.5, None]],
        "int": 3,
        "bool": True,
        "path": "x",
        "tuple": [1, None],
        "4": "µm <script>",
    }


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(TypeError, match="object"):
        write_json(path, {"a": object()})
    assert read_json(path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_absent_and_torn_files(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_json(tmp_path / "absent.json")
    (tmp_path / "torn.json").write_text('{"a": ')
    with pytest.raises(DataError, match="not a whole JSON"):
        read_json(tmp_path / "torn.json")
