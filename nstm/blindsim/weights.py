"""Trained networks as safetensors files, with their card: what they were trained on, and what they can take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nstm.acquisition import DataError
from nstm.blindsim.unrolled import Mode, Unrolled
from nstm.io.network import KEY, SCHEMA, About, read_network
from nstm.io.store import replace_whole

#: The networks of the package by their mode.
SHIPPED: Mapping[Mode, Path] = {
    "per_frame": Path(__file__).with_name("ubsim.safetensors"),
    "stacked": Path(__file__).with_name("ubsim_stacked.safetensors"),
}


def save_weights(path: str | Path, unrolled: Unrolled, width: int, card: Mapping[str, Any]) -> None:
    """Write a network.

    Args:
        path: ``NAME.safetensors``; written whole or not at all.
        unrolled: made by :meth:`Unrolled.new`.
        width: that it was made with.
        card: JSON-able facts about its training.
    """
    from safetensors.numpy import save

    about = {
        "schema": SCHEMA,
        "mode": unrolled.mode,
        "frames": unrolled.frames,
        "width": width,
        "blocks": len(unrolled.log_steps),
        "card": dict(card),
    }
    with replace_whole(Path(path)) as temporary:
        Path(temporary).write_bytes(save(arrays_of(unrolled), {KEY: json.dumps(about)}))


def load_weights(path: str | Path) -> tuple[Unrolled, dict[str, Any]]:
    """A network and its card.

    Raises:
        DataError: as :func:`nstm.io.network.read_network`, or arrays that do not fit what it says of itself.
    """
    about, arrays = read_network(path)
    return with_arrays(_new(about), arrays, str(path)), about.card


def untrained(path: str | Path) -> Unrolled:
    """A network as it was before its training.

    It adds nothing to its projected steps yet, so that what it finds is the same for every seed.

    Raises:
        DataError: as :func:`nstm.io.network.read_network`.
    """
    return _new(read_network(path)[0])


def _new(about: About) -> Unrolled:
    return Unrolled.new(about.mode, about.frames or 0, about.width, blocks=about.blocks)


def arrays_of(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree by their paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def with_arrays(tree: Any, arrays: Mapping[str, np.ndarray], source: str) -> Any:
    """The tree with its arrays replaced.

    Raises:
        DataError: names or shapes are not those of the tree; the message names ``source``.
    """
    own = arrays_of(tree)
    wrong = list(own.keys() ^ arrays.keys())
    wrong += [n for n in own.keys() & arrays.keys() if own[n].shape != arrays[n].shape]
    if wrong:
        raise DataError(
            f"{source}: the arrays {', '.join(sorted(wrong)[:5])} do not fit the network that it describes; where an "
            "earlier version of nstm trained it, train it again (nstm train-blind)"
        )
    dynamic, static = eqx.partition(tree, eqx.is_array)
    flat, shape = jax.tree_util.tree_flatten_with_path(dynamic)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in flat]
    return eqx.combine(jax.tree_util.tree_unflatten(shape, [jnp.asarray(arrays[n]) for n in names]), static)
