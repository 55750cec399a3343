"""On PYTHONPATH this replaces the pipeline by functions that only leave traces, for tests of the graph."""

import importlib.abc
import importlib.util
import sys
from pathlib import Path

RULES = ("inspect", "convert", "quality", "illumination", "reconstruct", "conventional")
RULES += ("assemble", "evaluate", "movie", "trajectories", "report")


class _Stubs(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        package, _, rule = name.rpartition(".")
        if package == "nstm.pipeline" and rule in RULES:
            return importlib.util.spec_from_file_location(name, Path(__file__).with_name("stub_pipeline.py"))
        if name == "nstm.simulate.demo":
            return importlib.util.spec_from_file_location(name, Path(__file__).with_name("stub_demo.py"))
        return None


sys.meta_path.insert(0, _Stubs())
