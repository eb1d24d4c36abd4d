"""The training loop: batches in, steps, metrics, checkpoints. A run that is stopped at any moment continues bit for bit."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import jax
import numpy as np
from clu.parameter_overview import get_parameter_overview
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from rad_jax import files
from rad_jax.config import Config
from rad_jax.data.windows import train_batches, train_dataset
from rad_jax.errors import Stopped
from rad_jax.files import WorkdirLock
from rad_jax.reports.hardware import hardware, peak_memory
from rad_jax.rollout.predict import PredictionError
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.stored_config import has_decayed
from rad_jax.runs.trained_on import TrainedOn
from rad_jax.runs.training_run import TrainingRun
from rad_jax.tokenizer import Tokenizer
from rad_jax.training import sharding
from rad_jax.training.log import Progress, Writer
from rad_jax.training.processes import check_same, of_process_0
from rad_jax.training.samples import sample_frames
from rad_jax.training.start import open_start, start_state
from rad_jax.training.step import TrainState, compile_step
from rad_jax.training.stopping import StopAgreement, StopSignals, check_finite


def train(config: Config, workdir: Path, profile: int | None = None) -> TrainState:
    """Trains to ``train.steps``, from the newest checkpoint in ``workdir`` if there is one.

    Writes ``config.json``, ``metrics.jsonl``, ``tensorboard/``, ``samples/`` and ``checkpoints/``; returns the last state.

    Args:
      profile: a step of which a trace for TensorBoard or Perfetto is written to ``profile/``.

    Raises:
      UserError: in one or two lines, what is missing, does not fit, is not finite or cannot be written.
      Stopped: after SIGTERM or SIGINT, with the last step saved.
    """
    run, preview, source = open_start(config, workdir, profile)
    check_same(run, workdir, profile)
    run = run._replace(odometry=of_process_0(run.odometry))
    workdir.mkdir(parents=True, exist_ok=True)
    lock = nullcontext() if jax.process_index() else WorkdirLock(workdir)
    with lock, Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
        mesh = sharding.make_mesh(config.mesh)
        state = start_state(run, mesh, checkpoints, source)
        del source  # it may take gigabytes
        return _train(run, preview, state, mesh, workdir, checkpoints, profile)


def _train(
    run: TrainingRun,
    preview: Tokenizer,
    state: TrainState,
    mesh: Mesh,
    workdir: Path,
    checkpoints: Checkpoints,
    profile: int | None,
) -> TrainState:
    config, episodes, tokenizer, model, odometry = run
    steps = config.train.steps
    first = int(state.step)
    print_first = partial(print, flush=True) if jax.process_index() == 0 else lambda *_: None
    if first < steps:
        print_first(get_parameter_overview(state.params, include_stats=False))
        print_first(
            f"{config.name}: step {first} of {steps}, {len(episodes)} episodes, "
            f"condition {config.data.condition}, {mesh.size} device(s)"
        )
    else:
        extend = f"extend it with --config.train.steps={2 * steps}, say"
        if has_decayed(config, steps):
            extend = (
                f"its learning rate has decayed: go on in another one with --config.train.init_from={workdir}"
            )
        print_first(f"{workdir}: the run is finished at step {first}; {extend}")
    step_fn = compile_step(model, config, mesh)
    # Passed as an argument; closed over, its weights would be compiled into the program. Stored latents need none.
    encoder = None if "latents" in episodes.spec.arrays else tokenizer
    encoder = jax.device_put(encoder, sharding.replicated(mesh))
    progress = Progress(steps, config.train.batch * config.data.clip, first)
    identity = {"name": tokenizer.name, "fingerprint": tokenizer.fingerprint}
    metadata = {"config": config.to_dict(), "tokenizer": identity, "hardware": hardware()}
    if odometry:
        metadata["odometry"] = dataclasses.asdict(odometry)
    agreement = StopAgreement(mesh)
    pending = first, {"finite": True}, []
    with (
        closing(open_batches(run, first)) as batches,
        closing(Writer(workdir, first)) as writer,
        StopSignals() as signals,
    ):
        # Written last: a run that fails to start must not claim the directory.
        if jax.process_index() == 0:
            TrainedOn.of(run).keep(workdir)
            files.write_bytes(workdir / "config.json", config.to_json().encode())
        for step in range(first + 1, steps + 1):
            batch = next(batches)
            clips = batch.pop("clip_id")
            batch = sharding.shard_batch(batch, mesh)
            with writer.profile() if step == profile else nullcontext():
                # What a step needs is on the devices: a transfer that nobody asked for would cost every step.
                with jax.transfer_guard("disallow"):
                    state, metrics = step_fn(encoder, state, batch)
                if step == profile:
                    jax.block_until_ready(state)
            check_finite(*pending)  # the step before, while the devices work on this one
            pending = step, metrics, clips
            stop = agreement.agree(signals.received)  # a signal after this stops the next step
            last, save = step == steps, step % config.checkpoint.every == 0 or stop
            if last or save:
                check_finite(*pending)
            if last or step % config.train.log_every == 0:
                values = jax.device_get({k: v for k, v in metrics.items() if k != "finite"})
                values |= progress.report(step) | peak_memory()
                writer.scalars(step, values)
            if last or save:
                checkpoints.save(step, state, metadata)
            # After the save, which neither a line nor a sample may cost.
            if last or step % config.train.log_every == 0:
                print_first(progress.line(step, values))
            if config.train.sample_every and step % config.train.sample_every == 0:
                params = state.ema or state.params
                if jax.process_count() > 1:  # every process needs all of their values
                    params = multihost_utils.process_allgather(params, tiled=True)
                try:
                    frames = sample_frames(run._replace(tokenizer=preview), params)
                    writer.video(step, "samples", frames, config.evaluate.fps)
                except PredictionError as error:
                    writer.warn("samples", error)
            if stop:
                raise Stopped(
                    f"stopped by {stop} after step {step}, which is saved; the same command continues"
                )
    return state


def open_batches(run: TrainingRun, first_step: int) -> Iterator[dict[str, np.ndarray]]:
    """This process's share of the batches from a step on."""
    config, processes = run.config, jax.process_count()
    share = {"process_index": jax.process_index(), "process_count": processes}
    batch = config.train.batch // processes
    share["odometry"] = run.odometry
    dataset = train_dataset(run.episodes, config.data, batch=batch, seed=config.seed, **share)
    return train_batches(dataset, first_step, config.data)
