"""Predicted videos: context frames in, generated frames out, for evaluation, samples and rollouts alike."""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from rad_jax.data.reader import check_latents, frame_size
from rad_jax.errors import UserError
from rad_jax.media import to_uint8
from rad_jax.odometry import Odometry
from rad_jax.runs.restore import TrainedModel
from rad_jax.runs.training_run import TrainingRun
from rad_jax.tokenizer import Tokenizer

# Folded into the seed. Training folds in another purpose, so no evaluation clip starts from the noise of a training step.
GENERATION = 2


class PredictionError(UserError, ArithmeticError):
    """A model generates numbers that are not finite."""


class Span(NamedTuple):
    """How long a clip is: frames of its context, and frames to predict after it."""

    context: int
    future: int


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

    @property
    def span(self) -> Span:
        """Its length, before and after the end of the context."""
        return Span(self.context, len(self.actions) - self.context)

    def encoded(self, tokenizer: Tokenizer, padded: int | None = None) -> Float[Array, "t rows cols ch"]:
        """Its latents, the stored ones or its frames encoded; with ``padded``, of its context, with zeros up to that length."""
        images = self.frames if self.latents is None else self.latents
        images = jnp.asarray(images if padded is None else _pad(images[: self.context], padded))
        return images if self.latents is not None else tokenizer.encode(images.astype(jnp.float32) / 255)


class Predicted(NamedTuple):
    """What a model makes of a clip.

    Attributes:
      index: of the clip.
      clip: what was continued.
      frames: the predicted frames, in [0, 1].
      forgotten: the same with the memory emptied before the first of them; None unless it was asked for.
    """

    index: int
    clip: Clip
    frames: Float[np.ndarray, "t H W 3"]
    forgotten: Float[np.ndarray, "t H W 3"] | None = None


def read_clip(
    episodes: Episodes,
    index: int,
    config: Config,
    tokenizer: Tokenizer,
    context: int | None = None,
    stop: int | None = None,
    odometry: Odometry | None = None,
    conditioned: bool = True,
) -> Clip:
    """An episode as a clip.

    Args:
      tokenizer: of the model, by which stored latents must have been made.
      context: frames that are given; None for ``n_context`` of the data set.
      stop: only the frames before this one; None for all.
      odometry: of the model, if its condition is made of it.
      conditioned: whether it is read for a model; else its frames count alone, and its condition has no columns.

    Raises:
      DataError: no such episode, latents of another tokenizer, or a context that leaves nothing to predict.
    """
    check_latents(episodes, tokenizer.name, tokenizer.fingerprint)
    shapes = episodes.spec.arrays
    latent = shapes["latents"][0] if "latents" in shapes else tokenizer.latent_shape(*frame_size(episodes))
    if config.model.latent not in (None, latent):
        raise DataError(
            f"{episodes} has latents of {latent}, the model works on those of {config.model.latent}"
        )
    images = [name for name in ("frames", "latents") if name in episodes.spec.arrays]
    span = span_of(episodes, index, context, stop)
    conditions = condition_arrays(config.data) if conditioned else ()
    arrays = episodes.read(index, 0, stop, [*images, *conditions])
    actions = np.zeros((len(arrays[images[0]]), 0), np.float32)
    if conditioned:
        actions = condition_features(episodes.spec, arrays, config.data, odometry)
    latents = arrays.get("latents")
    frames = arrays["frames"] if "frames" in arrays else to_uint8(np.asarray(tokenizer.decode(latents)))
    return Clip(episodes.ids[index], frames, actions, span.context, latents)


def span_of(episodes: Episodes, index: int, context: int | None = None, stop: int | None = None) -> Span:
    """The length of an episode as a clip, from the index and its first record alone. Arguments and errors: `read_clip`."""
    if context is None:
        context = episodes.context(index)
    length = int(episodes.lengths[index]) if stop is None else stop
    if not 1 <= context < length:
        raise DataError(f"episode {episodes.ids[index]!r}: a context of {context} among {length} frames")
    return Span(context, length - context)


def truth_of(episodes: Episodes) -> str:
    """What predictions are compared with: "raw" frames, or "tokenizer-decoded" ones where a set has latents alone."""
    return "raw" if "frames" in episodes.spec.arrays else "tokenizer-decoded"


def predict(
    run: TrainedModel | TrainingRun, params: PyTree, clips: Sequence[Clip], batch: int
) -> list[Float[np.ndarray, "t H W 3"]]:
    """`predict_each` for clips that are in memory already; returns their predictions in order."""
    spans = [clip.span for clip in clips]
    predictions = predict_each(run, params, clips.__getitem__, spans, batch, longest(spans))
    return [predicted.frames for predicted in sorted(predictions, key=lambda predicted: predicted.index)]


def predict_each(
    run: TrainedModel | TrainingRun,
    params: PyTree,
    read: Callable[[int], Clip],
    spans: Sequence[Span],
    batch: int,
    padded: Span,
    forgotten: bool = False,
) -> Iterator[Predicted]:
    """Generates the frames after each clip's context from its actions.

    Only one batch of clips and one prediction are in memory at a time, however many clips there are. Contexts that leave
    equally many frames in the window (`frames_in_window`) run in one batch; a batch that is not full repeats its last clip.

    The noise of a frame is a function of ``config.seed``, the index of its clip and the index of the frame. It does not
    depend on the batch, so models with different strides, whose batches differ, start from the same noise.

    Args:
      run: its model, configuration and tokenizer are used.
      read: the clip of an index, called once for every index just before its batch is generated.
      spans: of all clips.
      batch: how many clips to generate together.
      padded: length to which all contexts and futures are padded, at least `longest` of ``spans``. Calls with the same
        ``padded`` and ``batch`` share their compiled functions.
      forgotten: whether to generate a second time, from the same noise, with the memory emptied after the context.

    Yields:
      One clip at a time, batch after batch.
    """
    config, model, tokenizer = run.config, run.model, run.tokenizer
    alike: dict[int, list[int]] = {}
    for index, span in enumerate(spans):
        alike.setdefault(rollout.frames_in_window(model, span.context), []).append(index)
    batch = min(batch, len(spans))
    groups = [same[i : i + batch] for same in alike.values() for i in range(0, len(same), batch)]
    key = jax.random.fold_in(jax.random.key(config.seed), GENERATION)
    for group in groups:
        clips = {index: read(index) for index in group}
        indices = group + group[-1:] * (batch - len(group))
        together = [clips[index] for index in indices]
        contexts = jnp.stack([clip.encoded(tokenizer, padded.context) for clip in together])
        before = np.stack([_pad(clip.actions[: clip.context], padded.context) for clip in together])
        after = np.stack([_pad(clip.actions[clip.context :], padded.future) for clip in together])
        state = rollout.start(
            model,
            params,
            contexts.astype(config.model.state_dtype),
            jnp.asarray(before),
            diffusion=config.diffusion,
            steps=config.sample.steps,
            lengths=np.array([clip.context for clip in together]),
        )
        keys = jax.vmap(partial(jax.random.fold_in, key))(np.array(indices))
        states = [state, rollout.forget(state)] if forgotten else [state]
        generated = [rollout.generate(each, jnp.asarray(after), keys)[1] for each in states]
        del state, states, contexts, together  # decoding needs their space
        # Decoded one by one: the images of a single long video already take gigabytes.
        for row, index in enumerate(group):
            videos = [np.asarray(tokenizer.decode(each[row]))[: spans[index].future] for each in generated]
            if not (finite := np.isfinite(videos[0]).all((1, 2, 3))).all():
                frame = spans[index].context + int(finite.argmin())
                raise PredictionError(
                    f"episode {clips[index].name!r}: frame {frame} of the prediction is not finite; {config.name} cannot "
                    f"generate from these {spans[index].context} frames: train it on, or from an earlier checkpoint"
                )
            yield Predicted(index, clips.pop(index), *(np.clip(frames, 0, 1) for frames in videos))


def longest(spans: Iterable[Span]) -> Span:
    """The longest context and the longest future, which need not belong to the same clip."""
    return Span(*map(max, zip(*spans, strict=True)))


def _pad(x: np.ndarray, length: int) -> np.ndarray:
    """Appends zeros up to ``length`` frames."""
    return np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])
