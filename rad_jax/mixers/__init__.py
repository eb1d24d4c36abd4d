"""The memories of RAD: alternatives of one another behind one contract.

A mixer is a Linen module, made by ``from_config(memory config, width, features, dtype, param_dtype)``, that carries a
state through time, on its own for every token of a frame. ``x`` holds the ``f`` input features of a token, the last
``features`` of which are the action feature; ``y`` has the model's width. All methods are pure:

    initial_state(batch, tokens) -> state            a float32 pytree, batch axis first, that remembers nothing
    run(state, x)                -> (state, y)       frame after frame, for any number of frames
    run_keeping(state, x, stops) -> (state, y, kept) the same, and the states after the first stops[b, k] frames of x,
                                                     with axes (b, k, ...); a stop outside 1..t gives an arbitrary state
    read(state, x)               -> y                every frame takes one step from the same state; nothing is kept

``run(x[:, :i])`` followed by ``run(x[:, i:])`` is ``run(x)``, and ``read(state, x)[:, i]`` is the output of
``run(state, x[:, i:i+1])``. Adding a memory is one file here and one line in the table below.
"""

from rad_jax.mixers.lstm import LSTM

MIXERS = {"lstm": LSTM}
NAMES = ("none", *MIXERS)


def build(config, width, dtype, param_dtype, **kwargs):
    """The mixer named by ``config.kind`` (a ``MemoryConfig``), for a model of this width; ``kwargs`` go to Linen."""
    features = config.action_width if config.action else 0
    return MIXERS[config.kind].from_config(config, width, features, dtype, param_dtype, **kwargs)
