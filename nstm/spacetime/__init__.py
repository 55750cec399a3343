"""The space-time engine: scene and motion representations, coarse-to-fine fitting, results."""

from nstm.spacetime.fit import FitError
from nstm.spacetime.reconstruct import reconstruct
from nstm.spacetime.result import Fit
from nstm.spacetime.tiles import Tiles, load

__all__ = ["Fit", "FitError", "Tiles", "load", "reconstruct"]
