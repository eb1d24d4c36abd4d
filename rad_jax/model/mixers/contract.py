"""What every memory must do, whatever it computes (see `rad_jax.model.mixers`): checks of a mixer alone, in float64.

Every function of `CHECKS` takes a `Subject` and raises `Broken` with what it found, under ``jax.enable_x64``::

    for check in CHECKS:
        check(subject(MemoryConfig(kind="lstm")))

``python -m rad_jax.model.mixers.check NAME`` does this for a memory by name.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.axes import Array, Float, PyTree
from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.errors import UserError
from rad_jax.model import mixers

WIDTH, BATCH, FRAMES, TOKENS = 8, 2, 6, 3
POSE = 4  # two positions, and cosine and sine of a heading
STOPS = ((1, 4), (6, 2))  # in no order, different for the two videos
EXACT = 1e-12  # of the largest value


class Broken(UserError, AssertionError):
    """A memory does not keep the contract; the message says in a line what was found."""


def hold(condition: Any, message: str) -> None:
    """Raises `Broken` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise Broken(message)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A mixer with weights, inputs, and a state that has seen other frames. Calling it runs a method of the mixer."""

    config: MemoryConfig
    mixer: mixers.Mixer
    variables: dict
    state: PyTree
    x: Float[Array, "b t n f"]
    grid: tuple[int, int]

    def __call__(self, method: str, *args: Any) -> Any:
        return call(self.mixer, method, self.variables, *args)


@functools.partial(jax.jit, static_argnums=(0, 1))
def call(mixer: mixers.Mixer, method: str, variables: PyTree, *args: Any) -> Any:
    return mixer.apply(variables, *with_pose(mixer, *args), method=method)


def with_pose(mixer: mixers.Mixer, *args: Any) -> tuple:
    """The arguments of a method; for a memory that is given poses, they are in the last columns of the first token."""
    if not mixer.config.memory.posed:
        return args
    state, x, *more = args
    return state, x[..., :-POSE], *more, x[:, :, 0, -POSE:].astype(mixer.config.state_dtype)


def build(
    memory: MemoryConfig,
    width: int = WIDTH,
    heads: int = 2,
    dtype: str = "float64",
    tokens: int = TOKENS,
    rows: int = 1,
) -> mixers.Mixer:
    """A mixer for frames of ``rows`` of ``tokens`` tokens."""
    latent, pose = (2 * rows, 2 * tokens, 3), (POSE - 2, 1) if memory.posed else (0, 0)
    given = {"action_dim": POSE, "pose": pose, "memory": memory}
    return mixers.build(ModelConfig(latent=latent, width=width, heads=heads, dtype=dtype, **given))


def init(mixer: mixers.Mixer, x: Array, key: int = 0) -> dict:
    """Its parameters as they start."""
    start = jax.jit(functools.partial(mixer.init, method="run"))
    return start(jax.random.key(key), *with_pose(mixer, mixer.initial_state(1, x.shape[2]), x[:1]))["params"]


@functools.cache
def subject(config: MemoryConfig, dtype: str = "float64", grid: tuple[int, int] = (1, TOKENS)) -> Subject:
    """The mixer of a ``MemoryConfig``, every weight of it moved away from its start, at which some are zero.

    Frames are ``grid`` of tokens; mixers that have states of single tokens need the default.
    """
    rows, columns = grid
    mixer = build(config, dtype=dtype, tokens=columns, rows=rows)
    shape = (BATCH, FRAMES, rows * columns, WIDTH + config.features + POSE * config.posed)
    x, earlier = (jnp.asarray(noise(seed, *shape), dtype) for seed in (0, 1))
    leaves, structure = jax.tree.flatten({"params": init(mixer, x, 1)})
    leaves = [np.asarray(leaf) + 0.3 * noise(2 + i, *leaf.shape) for i, leaf in enumerate(leaves)]
    variables = structure.unflatten([jnp.asarray(leaf, mixer.config.state_dtype) for leaf in leaves])
    state, _ = call(mixer, "run", variables, mixer.initial_state(BATCH, TOKENS), earlier)
    return Subject(config, mixer, variables, state, x, grid)


def noise(seed: int, *shape: int) -> np.ndarray:
    """Normal numbers that a seed decides."""
    return np.random.default_rng(seed).normal(size=shape)


def distance(a: PyTree, b: PyTree) -> float:
    """The largest difference between two trees, leaf by leaf relative to the largest value of the second one, if not 0."""
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    shapes = [x.shape for x in a], [x.shape for x in b]
    hold(shapes[0] == shapes[1], f"shapes {shapes[0]}, expected {shapes[1]}")
    pairs = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in zip(a, b, strict=True)]
    hold(all(np.isfinite(x).all() and np.isfinite(y).all() for x, y in pairs), "numbers that are not finite")
    return max((float(np.abs(x - y).max() / (np.abs(y).max() or 1)) for x, y in pairs), default=0.0)


def of_numbers(state: PyTree) -> tuple[list[Array], Callable[[list[Array]], PyTree]]:
    """The leaves of a state that have gradients, and what makes the state of such leaves and its own counts."""
    leaves, structure = jax.tree.flatten(state)
    real = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def whole(numbers: list[Array]) -> PyTree:
        given = iter(numbers)
        return structure.unflatten([next(given) if is_real else leaf for is_real, leaf in zip(real, leaves)])

    return [leaf for is_real, leaf in zip(real, leaves) if is_real], whole


def same(what: str, found: PyTree, wanted: PyTree) -> None:
    """Raises `Broken` unless two trees are equal but for rounding."""
    apart = distance(found, wanted)
    hold(apart < EXACT, f"{what}: differ by {apart:.1e} of the largest value, expected less than {EXACT:.0e}")


def only_where(here: np.ndarray, influence: np.ndarray, what: str, on: str, not_on: str) -> None:
    """Raises `Broken` unless an influence is above 0 where it should be, and 0 elsewhere."""
    here = np.broadcast_to(here, influence.shape)
    hold((influence[~here] == 0).all(), f"{what} depends on {not_on}")
    hold((influence[here] > 0).all(), f"{what} does not depend on {on}")


def state_has_one_shape(s: Subject) -> None:
    """A state has the same leaves before and after any number of frames, the batch axis first."""

    def shape(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    empty = s.mixer.initial_state(BATCH, TOKENS)
    after, _ = s("run", s.state, s.x)
    kept = s("run_with_states", s.state, s.x, jnp.array(STOPS))[2]
    for what, found in (("after some frames", s.state), ("after more frames", after)):
        hold(shape(found) == shape(empty), f"{what}: {shape(found)}, expected {shape(empty)} as at the start")
    axes = [leaf.shape for leaf in jax.tree.leaves(empty)]
    hold(axes, "a state has no array")
    hold(all(one[:1] == (BATCH,) for one in axes), f"shapes {axes}, expected the batch ({BATCH}) first")
    first = shape(jax.tree.map(lambda leaf: leaf[:, 0], kept))
    hold(first == shape(empty), f"kept states: {first}, expected {shape(empty)}")


def state_is_float32(s: Subject) -> None:
    """States are float32 (counts int32) if the matrix products are bfloat16, and outputs are bfloat16."""
    rows, columns = s.grid

    def run(x: Array) -> tuple:
        params = {"params": init(mixer, x)}
        after, y = call(mixer, "run", params, empty, x)
        _, _, kept = call(mixer, "run_with_states", params, empty, x, jnp.array(STOPS))
        return (after, kept), (y, call(mixer, "read", params, empty, x))

    with jax.enable_x64(False):
        mixer = build(s.config, dtype="bfloat16", tokens=columns, rows=rows)
        empty = mixer.initial_state(BATCH, TOKENS)
        states, outputs = jax.eval_shape(run, jax.ShapeDtypeStruct(s.x.shape, jnp.bfloat16))
    for what, tree, wanted in (("states", (empty, states), "float32"), ("outputs", outputs, "bfloat16")):
        types = {leaf.dtype.name for leaf in jax.tree.leaves(tree)}
        types -= {"int32"} if what == "states" else set()
        hold(types == {wanted}, f"{what}: {', '.join(sorted(types))}, expected {wanted}")


def empty_state_knows_nothing(s: Subject) -> None:
    """The empty state is one and the same for all videos and tokens, and differs from that after a frame."""
    empty = s.mixer.initial_state(BATCH, TOKENS)
    alone = s.mixer.initial_state(1, 1)
    equal = all(np.all(a == b) for a, b in zip(jax.tree.leaves(empty), jax.tree.leaves(alone)))
    hold(equal, "empty states of several videos and tokens differ")
    apart = distance(empty, s("run", empty, s.x[:, :1])[0])
    hold(
        apart > 0.1,
        f"a frame changes the empty state by {apart:.1e} of the largest value, expected more than 0.1",
    )


def run_can_be_split(s: Subject) -> None:
    """Running k frames and then the rest is running all, for the outputs and the state."""
    whole, y = s("run", s.state, s.x)
    for k in (1, 4):
        middle, first = s("run", s.state, s.x[:, :k])
        end, second = s("run", middle, s.x[:, k:])
        same(f"outputs of {k} frames and then the rest", jnp.concatenate([first, second], axis=1), y)
        same(f"states after {k} frames and then the rest", end, whole)


def read_is_one_step_of_every_frame(s: Subject) -> None:
    """``read`` gives for each frame what running this frame alone gives, and ``run`` over many frames does not."""
    y = s("read", s.state, s.x)
    steps = [s("run", s.state, s.x[:, i : i + 1])[1] for i in range(FRAMES)]
    same("read, and run of one frame", y, jnp.concatenate(steps, axis=1))
    apart = distance(y[:, 1:], s("run", s.state, s.x)[1][:, 1:])
    hold(apart > 1e-3, f"run gives what read gives (but for {apart:.1e}): it does not run on")


def kept_states_are_those_of_prefixes(s: Subject) -> None:
    """``run_with_states`` runs as ``run`` does, and keeps for each video the states after its first ``stops`` frames."""
    state, y, kept = s("run_with_states", s.state, s.x, jnp.array(STOPS))
    same("run_with_states, and run", (state, y), s("run", s.state, s.x))
    for b, stops in enumerate(STOPS):
        for k, stop in enumerate(stops):
            prefix, _ = s("run", s.state, s.x[:, :stop])
            here = jax.tree.map(lambda leaf, b=b, k=k: leaf[b, k], kept)
            wanted = jax.tree.map(lambda leaf, b=b: leaf[b], prefix)
            same(f"the state kept after {stop} frames, and that of running them", here, wanted)


def stops_elsewhere_are_harmless(s: Subject) -> None:
    """What is kept for a stop outside 1..t is finite and so is its gradient: the model drops it with a ``where``."""
    stops = jnp.array([[0, FRAMES + 1], [-FRAMES, 3 * FRAMES]])

    numbers, whole = of_numbers(s.state)

    def total(variables: PyTree, numbers: list[Array], x: Array) -> Array:
        kept = call(s.mixer, "run_with_states", variables, whole(numbers), x, stops)[2]
        return sum(leaf.sum() for leaf in jax.tree.leaves(kept))

    value, gradient = jax.jit(jax.value_and_grad(total, (0, 1, 2)))(s.variables, numbers, s.x)
    for what, tree in (("states", value), ("their gradient", gradient)):
        hold(all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)), f"{what}: not finite")


def time_flows_one_way(s: Subject) -> None:
    """An output depends on every frame up to its own, on the state, and on no later frame and no other video."""

    numbers, whole = of_numbers(s.state)

    @jax.jit
    def gradients(numbers: list[Array], x: Array) -> tuple[list[Array], Array]:
        y, pull = jax.vjp(lambda n, x: call(s.mixer, "run", s.variables, whole(n), x)[1], numbers, x)
        one_frame = np.eye(BATCH * FRAMES).reshape(BATCH, FRAMES, BATCH, FRAMES, 1, 1)
        return jax.vmap(jax.vmap(pull))(jnp.asarray(one_frame * noise(3, *y.shape)))

    by_state, by_x = gradients(numbers, s.x)
    influence = np.abs(by_x).max((-1, -2))  # of (video, frame) on output (video, frame): output axes first
    same_video = np.eye(BATCH, dtype=bool)[:, None, :, None]
    earlier = np.tril(np.ones((FRAMES, FRAMES), bool))[None, :, None, :]
    only_where(
        same_video & earlier, influence, "an output", "an earlier frame", "a later frame or another video"
    )
    for leaf in by_state:  # (output video, output frame, state video, ...)
        influence = np.abs(leaf).max(tuple(range(3, leaf.ndim)))
        only_where(same_video[..., 0], influence, "an output", "the state", "the state of another video")


def kept_states_know_no_later_frame(s: Subject) -> None:
    """A kept state depends on every frame before its stop and on no later one."""

    def keep(x: Array) -> list[Array]:
        return of_numbers(s("run_with_states", s.state, x, jnp.array(STOPS))[2])[0]

    @jax.jit
    def gradients(x: Array) -> Array:
        kept, pull = jax.vjp(keep, x)
        probes = [np.broadcast_to(noise(4, *leaf.shape), (2, *leaf.shape)) for leaf in kept]
        one_stop = [np.eye(2).reshape(2, 1, 2, *[1] * (probe.ndim - 3)) for probe in probes]
        weights = [jnp.asarray(one * probe) for one, probe in zip(one_stop, probes)]
        return jax.vmap(lambda *w: pull(list(w))[0])(*weights)

    influence = np.abs(gradients(s.x)).max((-1, -2))  # (stop, video, frame)
    before = np.arange(FRAMES) < np.array(STOPS).T[:, :, None]
    only_where(before, influence, "a kept state", "a frame before its stop", "a later frame or another video")


CHECKS: tuple[Callable[[Subject], None], ...] = (
    state_has_one_shape,
    state_is_float32,
    empty_state_knows_nothing,
    run_can_be_split,
    read_is_one_step_of_every_frame,
    kept_states_are_those_of_prefixes,
    stops_elsewhere_are_harmless,
    time_flows_one_way,
    kept_states_know_no_later_frame,
)
