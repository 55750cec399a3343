"""Motion-resolved reconstruction for multi-shot microscopes: the neural space-time model as a batch workflow.

The public functions load on first use, so that ``import nstm`` and ``nstm --help`` are fast.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "DataError": "nstm.acquisition",
    "ImagingSystem": "nstm.systems",
    "load": "nstm.spacetime",
    "open_acquisitions": "nstm.io",
    "reconstruct": "nstm.spacetime",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nstm' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
