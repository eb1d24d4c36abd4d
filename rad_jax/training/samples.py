"""A look at a model while it trains: training clips, true and predicted, side by side."""

from pathlib import Path

import jax
import numpy as np

from rad_jax import media
from rad_jax.axes import PyTree
from rad_jax.rollout.predict import predict, read_clip
from rad_jax.runs.training_run import TrainingRun
from rad_jax.training.log import Writer

VIDEOS = 4
CONTEXT = 0.6  # share of a clip that is given


def write_sample(parts: TrainingRun, params: PyTree, step: int, workdir: Path, writer: Writer) -> None:
    """Writes ``samples/STEP.mp4``: truth above prediction, for the first clips of the training data.

    What are latents is decoded by ``parts.tokenizer``, which may be a preview of that of the run (`open_preview`).
    """
    config, episodes, tokenizer, model = parts
    length = config.data.clip
    clips = []
    for index in range(min(VIDEOS, len(episodes))):
        context = max(1, int(CONTEXT * length))
        clips.append(read_clip(episodes, index, config, tokenizer, context, stop=length))
    predictions = predict(model, params, tokenizer, config, clips, len(clips))
    columns = [
        np.concatenate(
            [clip.frames, np.concatenate([clip.frames[: clip.context], media.to_uint8(prediction)])], axis=1
        )
        for clip, prediction in zip(clips, predictions, strict=True)
    ]
    frames = np.concatenate(columns, axis=2)
    if jax.process_index() == 0:
        media.write_video(workdir / "samples" / f"{step:08d}.mp4", frames, config.evaluate.fps)
    writer.video(step, "samples", frames, config.evaluate.fps)
