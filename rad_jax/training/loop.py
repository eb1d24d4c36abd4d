"""The training loop: batches in, steps, metrics, checkpoints; stopped at any moment it goes on with the same bits."""

from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import jax
import numpy as np

from rad_jax import files
from rad_jax.config import Config
from rad_jax.data.windows import train_batches
from rad_jax.files import WorkdirLock
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.hardware import hardware, peak_memory
from rad_jax.runs.stored_config import check_same_run
from rad_jax.runs.trained_on import TrainedOn
from rad_jax.runs.training_run import TrainingRun, open_training_run
from rad_jax.tokenizer import Tokenizer
from rad_jax.tokenizer.preview import open_preview
from rad_jax.training import sharding
from rad_jax.training.log import Progress, Writer, parameter_table
from rad_jax.training.samples import write_sample
from rad_jax.training.start import start_state
from rad_jax.training.step import TrainState, train_step
from rad_jax.training.stopping import StopSignals


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient is not finite; the state was not updated and nothing was saved."""


class Stopped(RuntimeError):
    """The run was asked to end, and its last step is saved."""


def train(config: Config, workdir: Path) -> TrainState:
    """Trains to ``train.steps``, from the newest checkpoint in ``workdir`` if there is one.

    Writes ``config.json``, ``metrics.jsonl``, ``tensorboard/``, ``samples/`` and ``checkpoints/``; returns the last state.

    Raises:
      ConfigError, DataError, TokenizerError, WorkdirInUse, CheckpointError, NonFiniteLoss: in one or two lines.
      Stopped: after SIGTERM or SIGINT, with the last step saved.
    """
    parts = open_training_run(config)
    preview = open_preview(parts.config.tokenizer, parts.tokenizer)
    check_same_run(parts.config, workdir, TrainedOn.of(parts))
    workdir.mkdir(parents=True, exist_ok=True)
    lock = nullcontext() if jax.process_index() else WorkdirLock(workdir)
    with lock, Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
        return _train(parts, preview, workdir, checkpoints)


def _train(parts: TrainingRun, preview: Tokenizer, workdir: Path, checkpoints: Checkpoints) -> TrainState:
    config, episodes, tokenizer, model = parts
    mesh = sharding.make_mesh(config.mesh)
    state, shardings = start_state(parts, mesh, checkpoints)
    first = int(state.step)
    say = partial(print, flush=True) if jax.process_index() == 0 else lambda *_: None
    say(parameter_table(state.params))
    say(
        f"{config.name}: step {first} of {config.train.steps}, {len(episodes)} episodes, "
        f"condition {config.data.condition}, {mesh.size} device(s)"
    )
    step_sharded = jax.jit(
        partial(train_step, model, config),
        in_shardings=(sharding.replicated(mesh), shardings, sharding.batch_sharding(mesh)),
        out_shardings=(shardings, sharding.replicated(mesh)),
        donate_argnums=1,
    )
    # An argument, or its weights would become a part of the program; stored latents need none.
    encoder = None if "latents" in episodes.spec.arrays else tokenizer
    encoder = jax.device_put(encoder, sharding.replicated(mesh))
    progress = Progress(config.train.steps, config.train.batch * config.data.clip, first)
    metadata = {
        "config": config.to_dict(),
        "tokenizer": {"name": tokenizer.name, "fingerprint": tokenizer.fingerprint},
        "hardware": hardware(),
    }
    drawn = parts._replace(tokenizer=preview)
    pending = first, {"finite": True}, []
    with (
        closing(open_batches(parts, first)) as batches,
        closing(Writer(workdir, first)) as writer,
        StopSignals() as signals,
    ):
        # Only now: what could not begin leaves the directory to another configuration.
        if jax.process_index() == 0:
            TrainedOn.of(parts).keep(workdir)
            files.write_bytes(workdir / "config.json", config.to_json().encode())
        for step in range(first + 1, config.train.steps + 1):
            batch = next(batches)
            clips = batch.pop("clip_id")
            state, metrics = step_sharded(encoder, state, sharding.shard_batch(batch, mesh))
            check_finite(*pending)  # the step before, while the device works on this one
            pending = step, metrics, clips
            stop = signals.received  # looked at once: what comes later stops the next step
            last, save = step == config.train.steps, step % config.checkpoint.every == 0 or stop
            if last or save:
                check_finite(*pending)
            if last or step % config.train.log_every == 0:
                values = jax.device_get({k: v for k, v in metrics.items() if k != "finite"})
                values |= progress.report(step) | peak_memory()
                writer.scalars(step, values)
                say(progress.line(step, values))
            if config.train.sample_every and step % config.train.sample_every == 0:
                write_sample(drawn, sharding.gather(state.ema or state.params), step, workdir, writer)
            if last or save:
                checkpoints.save(step, state, metadata)
            if stop:
                raise Stopped(
                    f"stopped by {stop} after step {step}, which is saved; the same command goes on"
                )
    return state


def open_batches(parts: TrainingRun, first_step: int):
    """This process's share of the batches from a step on."""
    data = parts.config.data
    return train_batches(
        parts.episodes,
        clip=data.clip,
        batch=parts.config.train.batch // jax.process_count(),
        seed=parts.config.seed,
        first_step=first_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        condition=data.condition,
        heading_harmonics=data.heading_harmonics,
        threads=data.threads,
        buffer=data.buffer,
    )


def check_finite(step, metrics, clips) -> None:
    """Raises `NonFiniteLoss` with what is known of a step whose loss or gradient is not finite."""
    if not bool(metrics["finite"]):
        values = ", ".join(f"{name} {float(metrics[name])}" for name in ("loss", "grad_norm"))
        raise NonFiniteLoss(
            f"step {step}: {values}: not finite; the parameters are those before it, and nothing was saved since\n"
            f"clips (episode, first frame): {np.asarray(clips).tolist()}"
        )
