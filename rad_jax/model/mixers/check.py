"""Checks that a memory is one: the contract, and a whole model that trains on what it generates with.

    python -m rad_jax.model.mixers.check lstm
    python -m rad_jax.model.mixers.check my_memories.ema:EMA --own "decay=0.95"

prints a line for every check and exits with 0, with 1 if one has failed, or with 2 if there is no such memory. ``--table``
prints the built-in memories as a Markdown table instead.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax import errors
from rad_jax.axes import Array, Int
from rad_jax.config import ConfigError, MemoryConfig, ModelConfig
from rad_jax.config.memories import MEMORIES, always_needs_pose, is_own
from rad_jax.config.messages import require, shorten
from rad_jax.model import RAD
from rad_jax.model.memory import Memory, at_start
from rad_jax.model.mixers import check_kind, contract, find, trust
from rad_jax.model.mixers.contract import BATCH, TOKENS, WIDTH, noise, same

ACTION = 4  # features of the action, in the mixers that are checked alone
WINDOW, LENGTH = 3, 9
MODES = {"f": "frame-wise", "c": "chunk-wise", "s": "strided"}
STRIDES = {"f": 1, "c": WINDOW, "s": 2}
# Of the keys of built-in memories those that do not fit a model as small as this one.
SMALL = {
    "mamba2": {"head_width": 4, "state": 4},
    "bank": {"capacity": 3, "retrieved": 2},
    "atlas": {"capacity": 3, "retrieved": 2},
    "convkv": {"slots": 4, "slot_frames": 2},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="rad_jax.model.mixers.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", help="a built-in memory, or package.module:Class")
    parser.add_argument(
        "--own", default="", metavar="NAME=VALUE,...", help="settings that the class declares"
    )
    parser.add_argument("--table", action="store_true", help="print the built-in memories")
    options = parser.parse_args(arguments)
    failed: list[str] = []

    def work() -> None:
        if options.table:
            return print(table())
        require(bool(options.name), "expected the name of a memory, or --table; see --help")
        for name, reason in failures(options.name, options.own):
            print(f"FAILED  {name}: {reason}" if reason else f"ok      {name}", flush=True)
            if reason:
                failed.append(name)

    return errors.run(work) or int(bool(failed))


def table() -> str:
    """The built-in memories in Markdown, one a row."""
    rows = [
        f"| `{name}` | {kind.state} | {kind.source} | {', '.join(f'`-{mode}`' for mode in kind.modes)} |"
        for name, kind in MEMORIES.items()
        if name != "none"
    ]
    return "\n".join(["| memory | state | source | variants |", "|---|---|---|---|", *rows])


def failures(name: str, own: str = "") -> Iterator[tuple[str, str]]:
    """Makes the checks of a memory one after another; yields the name of each, and in a line why it failed ("": it did not).

    A memory of the user's is imported: to name it is to trust it.

    Raises:
      ConfigError: there is no such memory, or it cannot have these settings.
    """
    if is_own(name):
        trust(name)
    memory = MemoryConfig(kind=name, own=own, **SMALL.get(name, {}))
    require(name != "none", "none is no memory: there is nothing to check")
    kept = modes(memory)
    for mode in kept:
        check_kind(model_config(memory, mode))
    if not memory.has_tape:  # a bank keeps frames, not a state, and has other methods
        alone = dataclasses.replace(memory, action=True, action_width=ACTION, **slide(kept[0]))
        for check in contract.CHECKS:
            yield words(check), reason(lambda check=check: check(contract.subject(alone)))
    for mode in kept:
        what = f"training is the literal loop of generation, {MODES[mode]}"
        yield what, reason(lambda mode=mode: trains_as_the_loop(memory, mode))


def modes(memory: MemoryConfig) -> list[str]:
    """The modes in which a memory is checked in a whole model; strided is between the two others, if it has them."""
    has = find(memory.kind).modes if is_own(memory.kind) else MEMORIES[memory.kind].modes
    return [mode for mode in "fc" if mode in has] or ["s"]


def slide(mode: str) -> dict[str, Any]:
    """How the window slides in a mode, as keys of the memory."""
    stride = STRIDES[mode]
    window = "shared" if mode == "f" else "rollout"
    return {"stride": stride, "window": window, "prefetch_segment": 2 * stride}


def words(check: Callable[..., None]) -> str:
    """The name of a check as a sentence."""
    return check.__name__.replace("_", " ")


def reason(check: Callable[[], None]) -> str:
    """Why a check failed, in a line; empty if it did not. What the memory itself raises is a failure, too."""
    try:
        with jax.enable_x64(True):
            check()
    except ConfigError:
        raise
    except contract.Broken as broken:
        return shorten(broken, 300)
    except Exception as error:
        return f"{type(error).__name__}: {shorten(error, 300)}"
    return ""


def model_config(memory: MemoryConfig, mode: str) -> ModelConfig:
    """A tiny model whose window slides as a mode has it, in float64."""
    return ModelConfig(
        latent=(2, 2 * TOKENS, 3),
        action_dim=2,
        pose=(0, int(not is_own(memory.kind) and always_needs_pose(memory.kind))),
        width=WIDTH,
        depth=2,
        heads=2,
        mlp_ratio=1.0,
        window=WINDOW,
        context_level=1,
        dtype="float64",
        remat=False,
        memory=dataclasses.replace(memory, **slide(mode)),
    )


def trains_as_the_loop(memory: MemoryConfig, mode: str) -> None:
    """Windows predict the same from the memory that prefetch makes of a clip and from one that slid there step by step.

    Raises:
      Broken: they differ.
    """
    model = RAD(model_config(memory, mode))
    config, stride = model.config, model.config.memory.stride
    frames = jnp.asarray(noise(0, BATCH, LENGTH, *config.latent))
    actions = jnp.asarray(noise(1, BATCH, LENGTH, config.action_dim))
    levels = jnp.full((BATCH, WINDOW), config.context_level)
    first = frames[:, :WINDOW], levels, actions[:, :WINDOW]
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *first))
    leaves, structure = jax.tree.flatten(shapes)
    values = [0.3 * noise(2 + i, *leaf.shape) for i, leaf in enumerate(leaves)]
    variables = structure.unflatten(
        [jnp.asarray(value, leaf.dtype) for value, leaf in zip(values, leaves, strict=True)]
    )
    window = jax.jit(model.apply)

    def windows(starts: Int[np.ndarray, "b"]) -> tuple[Array, Array]:
        return tuple(
            jnp.stack([x[b, start : start + WINDOW] for b, start in enumerate(starts)])
            for x in (frames, actions)
        )

    slid = [model.initial_memory(BATCH)]  # after 0, stride, 2 stride, ... frames
    for start in range(0, LENGTH - WINDOW, stride):
        clean, action = windows(np.full(BATCH, start))
        slid.append(window(variables, clean, levels, action, slid[-1])[1])
    last = len(slid) - 1
    starts = stride * np.array([[0, last], [1, max(last - 1, 0)]])  # other ones in the two videos
    prefetch = jax.jit(lambda *given: model.apply(*given, method=RAD.prefetch))
    fetched = prefetch(variables, frames, actions, jnp.asarray(starts))
    for k in range(starts.shape[1]):
        clean, action = windows(starts[:, k])
        noised = clean + jnp.asarray(noise(9, *clean.shape))
        wanted = pick(slid, starts[:, k] // stride)
        predictions = [
            window(variables, noised, levels, action, m)[0] for m in (at_start(fetched, k), wanted)
        ]
        same(f"windows at frames {starts[:, k].tolist()} predict from either memory", *predictions)


def pick(memories: Sequence[Memory], which: Int[np.ndarray, "b"]) -> Memory:
    """For every video that of several memories which is its own."""
    chosen = [memories[i] for i in which]
    return jax.tree.map(lambda *leaves: jnp.stack([leaf[b] for b, leaf in enumerate(leaves)]), *chosen)


if __name__ == "__main__":
    sys.exit(main())
