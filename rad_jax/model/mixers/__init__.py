"""The memories of RAD: alternatives of one another behind one contract.

A mixer is a Linen module in a file of its own, made by ``from_config(model config)``, that carries a state through time.
``x`` holds the ``f`` input features of a token: those of the model, then the ``config.memory.features`` of the action feature
(there may be none). ``y`` has the model's width ``d``. A mixer of tokens runs on its own for every token of a frame, with the
same weights, as those of the paper do; a mixer of frames (ARL2) has one state for the whole frame, and every token reads the
state from before the frame. States, gates and decays are at least float32, whatever the compute dtype. All methods are pure:

    initial_state(batch, tokens)      -> state               a pytree, batch axis first, that remembers nothing
    run(state, x)                     -> (state, y)          frame after frame, for any number of frames t >= 1
    run_with_states(state, x, ends)   -> (state, y, states)  the same, and the states after the first ends[b, k] frames of x,
                                                             with axes (b, k, ...); an end outside 1..t gives an arbitrary
                                                             but finite state
    read(state, x)                    -> y                   every frame takes one step from the same state; nothing is kept

Three equations hold exactly: ``run(x[:, :i])`` followed by ``run(x[:, i:])`` is ``run(x)``; ``run_with_states`` gives the
states of such prefixes; and ``read(state, x)[:, i]`` is the output of ``run(state, x[:, i:i+1])``. An output depends on no
later frame. `tests/model/mixers/contract.py` checks all of this for every memory.

Adding a memory is one file here, named after the memory, whose ``MIXER`` is the class, and one line in
`rad_jax.config.memories`; `docs/examples/ema_memory.py` is a complete one.
"""

from importlib import import_module
from typing import Any

from flax import linen as nn

from rad_jax.config import ModelConfig


def mixer(kind: str) -> type[nn.Module]:
    """The class of a mixer by its name, which is that of its file."""
    return import_module(f"{__name__}.{kind}").MIXER


def build(config: ModelConfig, **kwargs: Any) -> nn.Module:
    """The mixer that ``config.memory.kind`` names; ``kwargs`` go to Linen."""
    return mixer(config.memory.kind).from_config(config, **kwargs)
