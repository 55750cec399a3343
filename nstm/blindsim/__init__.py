"""Blind SIM: an object and the random light of every frame from the frames alone.

Burns et al., Nature Communications 2026 (UBSIM), after Mudry et al., Nature Photonics 6, 312 (2012).
"""

from nstm.blindsim.convex import PerFrame
from nstm.blindsim.model import BlindModel, Unknowns, start
from nstm.blindsim.reconstruct import METHODS, BlindResult, reconstruct
from nstm.blindsim.solvers import ConjugateGradient, GradientDescent, Nesterov, Outcome, solve
from nstm.blindsim.unrolled import Unrolled
from nstm.blindsim.weights import SHIPPED, load_weights, untrained

__all__ = [
    "METHODS",
    "SHIPPED",
    "BlindModel",
    "BlindResult",
    "ConjugateGradient",
    "GradientDescent",
    "Nesterov",
    "Outcome",
    "PerFrame",
    "Unknowns",
    "Unrolled",
    "load_weights",
    "reconstruct",
    "solve",
    "start",
    "untrained",
]
