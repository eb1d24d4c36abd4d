"""Predicted videos: context frames in, generated frames out, for evaluation, samples and rollouts alike."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax import rollout
from rad_jax.axes import Array, Float, PyTree
from rad_jax.config import Config
from rad_jax.data import DataError, Episodes
from rad_jax.data.condition import condition_arrays, condition_features
from rad_jax.data.reader import check_latents
from rad_jax.media import to_uint8
from rad_jax.model import RAD
from rad_jax.tokenizer import Tokenizer


class Clip(NamedTuple):
    """A video to continue.

    Attributes:
      frames: uint8 (t, H, W, 3); where the data set has latents alone, these decoded.
      actions: the condition of every frame.
      context: how many frames are given.
      latents: of every frame, where the data set has them; else None.
    """

    name: str
    frames: np.ndarray
    actions: Float[np.ndarray, "t a"]
    context: int
    latents: np.ndarray | None = None

    def encoded(self, tokenizer: Tokenizer) -> Float[Array, "t rows cols ch"]:
        """Its latents, stored or made from its frames."""
        if self.latents is not None:
            return jnp.asarray(self.latents)
        return tokenizer.encode(jnp.asarray(self.frames).astype(jnp.float32) / 255)


def read_clip(
    episodes: Episodes,
    index: int,
    config: Config,
    tokenizer: Tokenizer,
    context: int | None = None,
    stop: int | None = None,
) -> Clip:
    """An episode as a clip.

    Args:
      tokenizer: of the model, by which stored latents must have been made.
      context: frames that are given; None for ``n_context`` of the data set.
      stop: only the frames before this one; None for all.

    Raises:
      DataError: no such episode, latents of another tokenizer, or a context that leaves nothing to predict.
    """
    check_latents(episodes, tokenizer.name, tokenizer.fingerprint)
    images = [name for name in ("frames", "latents") if name in episodes.spec.arrays]
    arrays = episodes.read(index, 0, stop, [*images, *condition_arrays(config.data.condition)])
    if context is None:
        if "n_context" not in episodes.spec.statics:
            raise DataError(f"{episodes} has no 'n_context' for its episodes: it was not made for evaluation")
        context = int(episodes.static(index)["n_context"])
    if not 1 <= context < len(arrays["actions"]):
        raise DataError(
            f"episode {episodes.ids[index]!r}: a context of {context} among {len(arrays['actions'])} frames"
        )
    actions = condition_features(episodes.spec, arrays, config.data.condition, config.data.heading_harmonics)
    latents = arrays.get("latents")
    frames = arrays["frames"] if "frames" in arrays else to_uint8(np.asarray(tokenizer.decode(latents)))
    return Clip(episodes.ids[index], frames, actions, context, latents)


def truth_of(episodes: Episodes) -> str:
    """What the frames are that predictions are compared with, for the record: "raw", or what the tokenizer decodes."""
    return "raw" if "frames" in episodes.spec.arrays else "tokenizer-decoded"


def predict(
    model: RAD,
    params: PyTree,
    tokenizer: Tokenizer,
    config: Config,
    clips: Sequence[Clip],
    batch: int,
    room: tuple[int, int] = (0, 0),
) -> list[Float[np.ndarray, "t H W 3"]]:
    """What the model predicts for the frames after each clip's context, from its ``actions``, in [0, 1].

    Clips are generated ``batch`` at a time in arrays of one size, so that everything is compiled once. The noise of a frame
    is a function of ``config.seed``, the clip's place among ``clips`` and the frame, so that models whose windows part the
    clips into different batches, as strides do, start from the same noise.

    Args:
      room: frames of context and of prediction for which to make room, at least: calls with the same room and batch share
        what is compiled.
    """
    predictions: list = [None] * len(clips)
    longest, future = map(max, zip(room, room_of(clips), strict=True))
    alike: dict[int, list[int]] = {}
    for index, clip in enumerate(clips):
        alike.setdefault(rollout.frames_in_window(model, clip.context), []).append(index)
    batch = min(batch, len(clips))
    groups = [same[i : i + batch] for same in alike.values() for i in range(0, len(same), batch)]
    for group in groups:
        places = np.array(group + group[-1:] * (batch - len(group)))
        filled = [clips[i] for i in places]
        state = rollout.start(
            model,
            params,
            _contexts(filled, longest, tokenizer).astype(config.model.state_dtype),
            jnp.asarray(np.stack([_fit(clip.actions[: clip.context], longest) for clip in filled])),
            diffusion=config.diffusion,
            steps=config.sample.steps,
            lengths=np.array([clip.context for clip in filled]),
        )
        actions = jnp.asarray(np.stack([_fit(clip.actions[clip.context :], future) for clip in filled]))
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(config.seed)))(places)
        _, latents = rollout.generate(state, actions, keys)
        for row, index in enumerate(group):  # one by one: the images of a long video take gigabytes
            images = np.asarray(jnp.clip(tokenizer.decode(latents[row]), 0, 1))
            predictions[index] = images[: len(clips[index].actions) - clips[index].context].copy()
    return predictions


def room_of(clips: Sequence[Clip]) -> tuple[int, int]:
    """The longest context among some clips, and the most frames after one."""
    return max(c.context for c in clips), max(len(c.actions) - c.context for c in clips)


def _contexts(clips: Sequence[Clip], longest: int, tokenizer: Tokenizer) -> Float[Array, "b t rows cols ch"]:
    """The latents of what is given of each clip; zeros fill up the shorter ones."""
    if clips[0].latents is not None:
        return jnp.asarray(np.stack([_fit(clip.latents[: clip.context], longest) for clip in clips]))
    videos = (jnp.asarray(_fit(clip.frames[: clip.context], longest)) for clip in clips)
    return jnp.stack([tokenizer.encode(video.astype(jnp.float32) / 255) for video in videos])


def _fit(x: np.ndarray, length: int) -> np.ndarray:
    """Zeros behind the last frame, up to ``length`` frames."""
    return np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])
