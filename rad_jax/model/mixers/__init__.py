"""The memories of RAD: alternatives of one another behind one contract.

A mixer is a Linen module in a file of its own, a `Mixer`, that carries a state through time. ``x`` holds the ``f`` input
features of a token: those of the model, then the ``config.memory.features`` of the action feature (there may be none).
``y`` has the model's width ``d``. A mixer of tokens runs on its own for every token of a frame, with the same weights, as those
of the paper do; a mixer of frames (ARL2, ConvKV) has one state for the whole frame, and every token reads the state from before
the frame. States, gates and decays are at least float32, whatever the compute dtype; counts in a state may be int32. All
methods are pure:

    initial_state(batch, tokens)      -> state               a pytree, batch axis first, that remembers nothing
    run(state, x)                     -> (state, y)          frame after frame, for any number of frames t >= 1
    run_with_states(state, x, ends)   -> (state, y, states)  the same, and the states after the first ends[b, k] frames of x,
                                                             with axes (b, k, ...); an end outside 1..t gives an arbitrary
                                                             but finite state
    read(state, x)                    -> y                   every frame takes one step from the same state; nothing is kept

Three equations hold exactly: ``run(x[:, :i])`` followed by ``run(x[:, i:])`` is ``run(x)``; ``run_with_states`` gives the
states of such prefixes; and ``read(state, x)[:, i]`` is the output of ``run(state, x[:, i:i+1])``. An output depends on no
later frame. `rad_jax.model.mixers.check` checks all of this, for every memory.

A memory of yours is a class derived from `Mixer` in any package, named by ``memory.kind=package.module:Class``;
`docs/memories.md` has a complete one. It writes ``initial_state``, ``read`` and

    walk(state, x)                    -> (state, y, states_at)   ``states_at(ends)`` makes the states of `run_with_states`

from which `Mixer` makes the two ways to run: states that nobody asks for are never made. A memory that is built in is a file
here, named after the memory, whose ``MIXER`` is the class, and one line in `rad_jax.config.memories`.

Where ``memory.posed`` is true, all but the first have one more argument, the pose of every frame (b, t, p): weighted scaled
positions, then cosine and sine of the heading, in the precision of states.

A built-in memory that keeps frames themselves (``tape`` in `rad_jax.config.memories`) has an empty state, and instead

    empty_tape(batch, tokens, records) -> tape           records of no frame: zeros (b, s, ...)
    record(x)                          -> records        what every frame leaves behind, whatever came before (b, t, ...)
    attend(tape, reading, x)           -> y              every frame reads the records chosen for it (b, t, n, d)

Which records those are is decided once for all layers, by `rad_jax.model.addressing`.
"""

from collections.abc import Callable
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Shaped

from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import ConfigError, ModelConfig, Section
from rad_jax.config.memories import OWN, is_own
from rad_jax.config.messages import require, shorten
from rad_jax.config.own import check_trusted, read_settings, trust

__all__ = [
    "EPSILON",
    "Mixer",
    "Walk",
    "build",
    "check_kind",
    "find",
    "matmul",
    "standardise",
    "states_among",
    "trust",
]

Walk = tuple[PyTree, Float[Array, "b t n d"], Callable[[Int[Array, "b k"]], PyTree]]


EPSILON = 1e-6  # of the layer norms


class Mixer(nn.Module):
    """What all mixers share; see the module docstring.

    A class of the user's may say more of itself; for those built in `rad_jax.config.memories` does.

    Attributes:
      Settings: its own settings, a frozen dataclass derived from `rad_jax.config.Section`; None: it has none.
      modes: letters of the modes that it has: f frame-wise, c chunk-wise, s strided.
    """

    config: ModelConfig

    Settings: ClassVar[type[Section] | None] = None
    modes: ClassVar[str] = "fcs"

    @classmethod
    def check_settings(cls, config: ModelConfig) -> None:
        """Raises `ConfigError` for settings that a class of the user's cannot have; sizes may still be open."""

    @property
    def own(self) -> Any:
        """An instance of ``Settings``, with the values of ``memory.own``."""
        return read_settings(self.Settings, self.config.memory.own)

    @property
    def heads(self) -> int:
        """Heads of ``config.width / heads`` features, for a mixer that shares out the width."""
        return self.config.memory.heads or self.config.heads

    def run(
        self, state: PyTree, x: Float[Array, "b t n f"], *pose: Float[Array, "b t p"]
    ) -> tuple[PyTree, Float[Array, "b t n d"]]:
        state, y, _ = self.walk(state, x, *pose)
        return state, y

    def run_with_states(
        self,
        state: PyTree,
        x: Float[Array, "b t n f"],
        ends: Int[Array, "b k"],
        *pose: Float[Array, "b t p"],
    ) -> tuple[PyTree, Float[Array, "b t n d"], PyTree]:
        state, y, states_at = self.walk(state, x, *pose)
        return state, y, states_at(ends)


def states_among(every: PyTree, ends: Int[Array, "b k"]) -> PyTree:
    """The states after the first ``ends`` frames, of a memory that can afford those after every frame (b, t, ...)."""

    def at(states: Shaped[Array, "b t ..."]) -> Shaped[Array, "b k ..."]:
        index = jnp.clip(ends - 1, 0, states.shape[1] - 1)
        return jnp.take_along_axis(states, index.reshape(*index.shape, *[1] * (states.ndim - 2)), axis=1)

    return jax.tree.map(at, every)


def standardise(z: Float[Array, "*b e"]) -> tuple[Float[Array, "*b e"], Float[Array, "*b 1"]]:
    """``z`` with mean 0 and variance 1 over the last axis, and what it was multiplied by."""
    z = z - z.mean(-1, keepdims=True)
    factor = jax.lax.rsqrt(jnp.square(z).mean(-1, keepdims=True) + EPSILON)
    return z * factor, factor


def matmul(x: Float[Array, "*b f"], kernel: Float[Array, "f u"], dtype: jnp.dtype) -> Float[Array, "*b u"]:
    """``x @ kernel`` with operands in ``dtype`` and a result in the precision of ``kernel``."""
    return jnp.matmul(x.astype(dtype), kernel.astype(dtype), preferred_element_type=kernel.dtype)


def build(config: ModelConfig, **kwargs: Any) -> Mixer:
    """The mixer that ``config.memory.kind`` names; ``kwargs`` go to Linen."""
    return find(config.memory.kind)(config, **kwargs)


def find(kind: str) -> type[Mixer]:
    """The class of a kind of memory; that of a user is imported here, and nowhere else.

    Raises:
      ConfigError: a kind of the user's is not trusted (see `rad_jax.config.own`), cannot be imported, or is no mixer.
    """
    if not (own := OWN.fullmatch(kind)):
        return import_module(f"{__name__}.{kind}").MIXER
    check_trusted(kind)
    where = f"memory.kind={kind}"
    try:
        module = import_module(own["module"])
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {shorten(error, 200)}"
        raise ConfigError(
            f"{where}: module {own['module']} cannot be imported ({what}); expected one that Python finds from here"
        ) from error
    found = getattr(module, own["name"], None)
    require(
        isinstance(found, type) and issubclass(found, Mixer),
        f"{where}: {module.__name__} has no class {own['name']} that is derived from rad_jax.model.mixers.Mixer",
    )
    methods = ("initial_state", "read", *(("walk",) if found.run is Mixer.run else ()))
    missing = [name for name in methods if not hasattr(found, name)]
    require(
        not missing, f"{where}: {own['name']} has no method {' and no '.join(missing)}; see docs/memories.md"
    )
    return found


def check_kind(config: ModelConfig) -> None:
    """Raises `ConfigError` if a kind of the user's cannot be used, or not with these settings; see `find`."""
    memory = config.memory
    if not is_own(memory.kind):
        return
    found, where = find(memory.kind), f"memory.kind={memory.kind}"
    if found.Settings is None:
        require(
            not memory.own,
            f"memory.own={shorten(memory.own)}: {where} has no settings of its own; leave it out",
        )
    else:
        sound = isinstance(found.Settings, type) and issubclass(found.Settings, Section)
        require(
            sound and is_dataclass(found.Settings),
            f"{where}: its Settings are no frozen dataclass derived from rad_jax.config.Section",
        )
        read_settings(found.Settings, memory.own)
    mode = "f" if memory.shared else "c" if memory.stride == config.window else "s"
    require(
        mode in found.modes,
        f"memory.window={memory.window} with memory.stride={memory.stride}: {where} has the modes {found.modes} alone "
        "(f: as in a variant -f, c: -c, s: -sN)",
    )
    found.check_settings(config)
