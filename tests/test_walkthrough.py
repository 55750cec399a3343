"""The walk through DPC in the documents runs as it stands."""

import re

import numpy as np


def test_the_code_of_the_dpc_walk_through(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", (root / "docs" / "dpc.md").read_text(), re.DOTALL))
    names: dict = {}
    exec(compile(code, "docs/dpc.md", "exec"), names)
    assert names["found"]["status"] == "pass", names["found"]["reasons"]
    assert names["found"]["order"] == [0, 1, 2, 3]
    assert names["moving"].shape == (4, 2, 1, 64, 64)
    assert names["psnr"]["NSTM"] > names["psnr"]["conventional"] + 5, names["psnr"]
    true_steps = np.hypot(*names["recording"].material_displacement(*names["times"][[0, 3], 0]))
    steps = np.hypot(*np.nansum(names["motion"][1:, :, 0], axis=0))
    known = np.isfinite(names["motion"][1:]).all(axis=(0, 1, 2))
    error = np.median(np.abs(steps - true_steps)[known]) / names["m"].pixel_um
    assert error < 0.3, error
