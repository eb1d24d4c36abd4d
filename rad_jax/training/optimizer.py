"""AdamW or Muon with warm-up, decay, clipping and frozen parameters; the moving average of the parameters.

One call of the optimiser is one optimiser step: gradients that are accumulated over parts of a batch are averaged before.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import OptimizerConfig, TrainConfig, decay_begin
from rad_jax.model import names

# Root mean square of a matrix's update at a learning rate of 1. With AdamW's, .2 (arXiv 2502.16982), and with .8 a maze is
# learned later; see docs/results/maze_memory.md.
MUON_RMS = 0.4


def learning_rate(
    config: OptimizerConfig, train: TrainConfig, step: int | Int[Array, ""]
) -> Float[Array, ""]:
    """The learning rate of an optimiser step (0 is the first).

    Linear warm-up over `config.warmup` steps; step 0 already moves, at 1/warmup of the peak. Then the peak, and from
    `config.decay_start * train.steps` (not before the warm-up ends) down to zero at `train.steps`, along a line or half a
    cosine; "constant" stays at the peak.
    """
    start, step = decay_begin(config, train), jnp.asarray(step, jnp.float32)
    warm = jnp.minimum((step + 1) / max(config.warmup, 1), 1.0)
    done = jnp.clip((step - start) / max(train.steps - start, 1), 0.0, 1.0)
    left = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * done))}
    return config.learning_rate * warm * left[config.decay]


def is_decayed(name: str) -> bool:
    """Whether weight decay applies to a parameter: to kernels and the weights TTT starts from; not to biases, gains, rates.

    Decided by name: TTT has a bias and a gain per head, whose rank is that of a matrix.
    """
    last = name.rpartition("/")[2]
    return last.endswith("kernel") or last == "weight"


def is_frozen(train: TrainConfig, name: str) -> bool:
    """Whether a parameter never changes: with ``train.freeze=base`` all but those of the memory."""
    return train.freeze == "base" and not names.is_memory(name)


def make(config: OptimizerConfig, train: TrainConfig) -> optax.GradientTransformation:
    """Clips by the global norm, then AdamW or Muon with decoupled weight decay on what `is_decayed`, at the scheduled rate.

    Updates of frozen parameters are zero; they have no moments, and do not count in the norm that is clipped.
    """
    rate = partial(learning_rate, config, train)
    mask = partial(names.map_named, lambda name, _: is_decayed(name))
    adam = {"b1": config.b1, "b2": config.b2}
    if config.name == "muon":
        rule = optax.contrib.muon(
            rate,
            consistent_rms=MUON_RMS,
            muon_weight_dimension_numbers=partial(names.map_named, matrix_axes),
            weight_decay=config.weight_decay,
            weight_decay_mask=mask,
            adam_weight_decay=0.0,  # what decays is a matrix, or a weight that TTT starts from
            **{f"adam_{name}": value for name, value in adam.items()},
        )
    else:
        rule = optax.adamw(rate, weight_decay=config.weight_decay, mask=mask, **adam)
    chain = optax.chain(optax.clip_by_global_norm(config.clip), rule)
    if train.freeze == "none":
        return chain
    labels = partial(names.map_named, lambda name, _: "frozen" if is_frozen(train, name) else "trained")
    return optax.multi_transform({"trained": chain, "frozen": optax.set_to_zero()}, labels)


def matrix_axes(name: str, parameter: Array) -> optax.contrib.MuonDimensionNumbers | None:
    """The two axes of a parameter that Muon takes as a matrix, one for each layer and head; None: it is none."""
    if not is_decayed(name):
        return None
    return optax.contrib.MuonDimensionNumbers(parameter.ndim - 2, parameter.ndim - 1)


def ema_init(params: PyTree) -> PyTree:
    """The average before the first step: a float32 copy (never an alias: both may be donated)."""
    return jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params)


def ema_update(ema: PyTree, params: PyTree, decay: float, step: int | Int[Array, ""]) -> PyTree:
    """The average after optimiser step `step` (0 is the first), in float32.

    It decays at min(decay, (1 + step) / (10 + step)): short runs and first steps forget the initial weights soon. Chosen over
    dividing by 1 - decay^n: the average is then at every step itself a usable set of parameters, and a restored run needs
    nothing but the step.
    """
    step = jnp.asarray(step, jnp.float32)
    rate = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    # Written as a correction, so that a parameter that does not move (a frozen one) stays exactly itself.
    return jax.tree.map(lambda e, p: e + rate * (p.astype(jnp.float32) - e), ema, params)
