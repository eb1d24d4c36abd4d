"""The memories of RAD: alternatives of one another behind one contract.

A mixer is a Linen module, made by ``from_config(model config)``, that carries a state through time. ``x`` holds the ``f``
input features of a token, the last ``config.memory.features`` of which are the action feature (there may be none); ``y``
has the model's width. A mixer of tokens runs on its own for every token of a frame, with the same weights; a mixer of frames
has one state for all of them. All methods are pure:

    initial_state(batch, tokens) -> state            a float32 pytree, batch axis first, that remembers nothing
    run(state, x)                -> (state, y)       frame after frame, for any number of frames
    run_keeping(state, x, stops) -> (state, y, kept) the same, and the states after the first stops[b, k] frames of x,
                                                     with axes (b, k, ...); a stop outside 1..t gives an arbitrary state
    read(state, x)               -> y                every frame takes one step from the same state; nothing is kept

``run(x[:, :i])`` followed by ``run(x[:, i:])`` is ``run(x)``, and ``read(state, x)[:, i]`` is the output of
``run(state, x[:, i:i+1])``. Adding a memory is one file here, whose
``MIXER`` is the class, and one line in `rad_jax.config.memories`.
"""

from importlib import import_module


def mixer(kind):
    """The class of a mixer by its name, which is that of its file."""
    return import_module(f"{__name__}.{kind}").MIXER


def build(config, **kwargs):
    """The mixer that ``config``, a ``ModelConfig``, names in ``memory.kind``; ``kwargs`` go to Linen."""
    return mixer(config.memory.kind).from_config(config, **kwargs)
