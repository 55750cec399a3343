"""How much memory a fit takes, known before it runs: the compiled programs say it."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from nstm.settings import Reconstruction
from nstm.spacetime import finish
from nstm.spacetime.fit import _ADAM, _advance
from nstm.spacetime.objective import make_objective
from nstm.spacetime.renderer import Renderer, predict
from nstm.spacetime.rendering import Still

#: Share of the memory that a fit may take; the interpreter, the compiler and the results need some, too.
SHARE = 0.8
_FLOAT32 = 4
#: Copies of the frames that stay beside the programs: as recorded, as measurements, and the residuals of two fits.
_COPIES_OF_FRAMES = 4
#: Memory limits of the control group (versions 2 and 1) that a process runs in.
_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def peak_bytes(renderer: Renderer, frame_shape: tuple[int, ...], settings: Reconstruction, move: bool = True) -> int:
    """Peak memory of the fit of one acquisition on the device that it runs on, bytes.

    It is that of the largest program, the steps, the iterations that finish a volume, or the prediction of all frames:
    arguments, results and scratch space, as the compiler planned them; besides, the state that is kept for a breakdown
    and the frames. The interpreter and the compiler are not in it. The programs are compiled for that, and the fit uses
    them as they are.

    Args:
        renderer: from :func:`make_renderer`.
        frame_shape: of all measurements, ``(m, z, v, u)``.
        settings: of the fit.
        move: of the fit.
    """
    parameters = renderer.initial(settings.seed)
    state = 3 * sum(leaf.nbytes for leaf in jax.tree.leaves(parameters))  # the coefficients and both their moments
    fitted = renderer if move else replace(renderer, rendering=Still())
    programs = [_total(lowered(fitted, frame_shape, settings)) + state]
    programs.append(_total(predict.lower(renderer, parameters)))  # type: ignore[attr-defined]  # wrapped by equinox
    if finish.iterations(renderer, settings):
        objective = make_objective(fitted, jnp.zeros(frame_shape, jnp.float32), settings)
        programs.append(_total(finish.even.lower(objective, parameters)) + state)  # type: ignore[attr-defined]  # as above
        evenly = jax.tree.map(lambda a: jnp.ones(a.shape), jax.eval_shape(finish.even, objective, parameters))
        arguments = objective, parameters, evenly, finish.initial(parameters), jnp.int32(0)
        programs.append(_total(finish.advance.lower(*arguments)) + state)  # type: ignore[attr-defined]  # as above
    return max(programs) + _COPIES_OF_FRAMES * _FLOAT32 * math.prod(frame_shape)


def lowered(renderer: Renderer, frame_shape: tuple[int, ...], settings: Reconstruction) -> Any:
    """The program that :func:`fit` runs, not yet compiled."""
    objective = make_objective(renderer, jnp.zeros(frame_shape, jnp.float32), settings)
    objective = finish.with_light_held(objective, finish.iterations(renderer, settings))
    parameters = renderer.initial(settings.seed)
    return _advance.lower(objective, parameters, _ADAM.init(parameters), jnp.int32(0), jnp.int32(0))  # type: ignore[attr-defined]  # as above


def _total(program: Any) -> int:
    planned = program.compile().compiled.memory_analysis()
    parts = planned.argument_size_in_bytes + planned.output_size_in_bytes + planned.temp_size_in_bytes
    return int(parts - planned.alias_size_in_bytes)  # results that take the place of arguments count once


def available_bytes(settings: Reconstruction, attempt: int = 1) -> int:
    """Memory that a fit may take, bytes: ``memory_gb``, else :data:`SHARE` of the accelerator, the job or the machine.

    A job has what SLURM gave it and what its control group allows. Where an ``attempt`` before failed, a job asks for
    more of these, but an accelerator is no larger: the second attempt takes half of it, the third a third.
    """
    if settings.memory_gb is not None:
        return int(settings.memory_gb * 1e9)
    device = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if device is not None:
        return int(SHARE * device / attempt)
    return int(SHARE * min([_machine_bytes(), *_job_bytes(), *_group_bytes()]))


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _job_bytes() -> list[int]:
    """What SLURM gave the job on this node (its variables are in MB; 0 means all)."""
    found = os.environ
    whole = int(found.get("SLURM_MEM_PER_NODE", 0))
    by_core = int(found.get("SLURM_MEM_PER_CPU", 0)) * int(found.get("SLURM_CPUS_ON_NODE", 0))
    return [megabytes * 2**20 for megabytes in (whole, by_core) if megabytes]


def _group_bytes() -> list[int]:
    texts = [Path(name).read_text().strip() for name in _GROUP_LIMITS if Path(name).exists()]
    return [int(text) for text in texts if text.isdigit()]
