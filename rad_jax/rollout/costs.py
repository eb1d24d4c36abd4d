"""What a model costs while it generates, from shapes alone: bytes of its memory, and matrix products per frame."""

import math
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from rad_jax.config import DiffusionConfig, ModelConfig
from rad_jax.model import RAD
from rad_jax.model.names import init_params
from rad_jax.rollout import stream


def state_bytes(config: ModelConfig) -> int:
    """Bytes of the memory of one video, all layers together, which a rollout of any length keeps."""
    memory = jax.eval_shape(partial(RAD(config).initial_memory, 1))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(memory))


@lru_cache(maxsize=16)  # three programs are traced, which takes a second
def frame_flops(config: ModelConfig, diffusion: DiffusionConfig, steps: int) -> int:
    """Floating-point operations of the matrix products of one generated frame of one video, without the tokenizer.

    That is ``steps`` sampler steps and what follows them: of ``memory.stride`` frames one lets the window slide, and the others
    are appended to it.
    """
    model, stride = RAD(config), config.memory.stride
    params = jax.eval_shape(partial(init_params, config))
    clip = jnp.zeros((1, config.window, *config.latent)), jnp.zeros((1, config.window, config.action_dim))
    given = {"diffusion": diffusion, "steps": steps}
    state = jax.eval_shape(lambda params: stream.start(model, params, *clip, **given), params)
    window, frame = state.window, jax.ShapeDtypeStruct((1, *config.latent), clip[0].dtype)
    action = jax.ShapeDtypeStruct((1, config.action_dim), clip[1].dtype)

    def flops(function: Any, *arguments: Any) -> int:
        return matrix_flops(jax.make_jaxpr(function)(*arguments))

    sampled = flops(lambda s, a: stream.sample(s, s.window, a, jax.random.key(0)), state, action)
    appended = flops(partial(stream.append, model), params, frame, action, window)
    slid = flops(partial(stream.slide, model), params, window)
    return sampled + (slid + (stride - 1) * appended) // stride


def matrix_flops(jaxpr: Jaxpr | ClosedJaxpr) -> int:
    """Floating-point operations of all matrix products of a program, those in loops as often as they run.

    A ``while`` loop of unknown length counts once; of a ``cond`` the costliest branch counts.
    """
    return sum(_equation_flops(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _equation_flops(equation: Any) -> int:
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    inner = [
        p for value in equation.params.values() for p in (value if isinstance(value, tuple) else [value])
    ]
    costs = [matrix_flops(p) for p in inner if isinstance(p, Jaxpr | ClosedJaxpr)]
    if equation.primitive.name == "cond":
        return max(costs)
    return sum(costs) * equation.params.get("length", 1)
