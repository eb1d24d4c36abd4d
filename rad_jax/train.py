"""The training loop: batches in, steps, metrics, checkpoints; stopped at any moment it goes on with the same bits."""

import signal
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
import numpy as np

from rad_jax import atomic, sharding
from rad_jax.checkpoints import Checkpoints
from rad_jax.config import Config, ConfigError, config_from_json, diff_configs
from rad_jax.data.windows import train_batches
from rad_jax.lock import WorkdirLock
from rad_jax.parts import Parts, open_parts
from rad_jax.samples import write_sample
from rad_jax.schema import show_value
from rad_jax.train_step import MEMORY_NAME, TrainState, init_state, train_step
from rad_jax.writers import Progress, Writer, parameter_table

# Keys that may change when a run goes on: no number depends on them, or only in its last bits (speed against memory).
FREE_KEYS = (
    "evaluate.",
    "sample.",
    "checkpoint.",
    "mesh.",
    "data.threads",
    "data.buffer",
    "data.make",
    "data.auto_make",
    "train.sample_every",
    "train.accumulate",
    "train.window_batch",
    "model.remat",
    "memory.prefetch_segment",
)


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
    parts = open_parts(config)
    check_same_run(parts.config, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with WorkdirLock(workdir), Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
        return _train(parts, workdir, checkpoints)


def check_same_run(config: Config, workdir: Path) -> None:
    """Raises `ConfigError` if ``workdir`` holds a run whose numbers another configuration made."""
    path = workdir / "config.json"
    if path.exists():
        refuse_changes(config, config_from_json(path.read_text()), workdir)


def refuse_changes(config: Config, run: Config, workdir: Path, among: tuple[str, ...] = ("",)) -> None:
    """Raises `ConfigError` if a key that begins with one of ``among``, and is not free, is not what it was in the run."""
    differing = diff_configs(run, config).items()
    changed = {k: values for k, values in differing if k.startswith(among) and not k.startswith(FREE_KEYS)}
    if changed:
        key, (old, new) = next(iter(changed.items()))
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"{key}={show_value(new)}: {workdir} holds a run with {show_value(old)}{more}; choose another --workdir"
        )


def _train(parts: Parts, workdir: Path, checkpoints: Checkpoints) -> TrainState:
    config, episodes, tokenizer, model = parts
    mesh = sharding.make_mesh(config.mesh)
    state, shardings = start_state(parts, mesh, checkpoints)
    first = int(state.step)
    print(parameter_table(state.params), flush=True)
    print(
        f"{config.name}: step {first} of {config.train.steps}, {len(episodes)} episodes, "
        f"condition {config.data.condition}, {mesh.size} device(s)",
        flush=True,
    )
    step_sharded = jax.jit(
        partial(train_step, model, tokenizer, config),
        in_shardings=(shardings, sharding.batch_sharding(mesh)),
        out_shardings=(shardings, sharding.replicated(mesh)),
        donate_argnums=0,
    )
    progress = Progress(config.train.steps, config.train.batch * config.data.clip, first)
    metadata = {
        "config": config.to_dict(),
        "tokenizer": {"name": tokenizer.name, "fingerprint": tokenizer.fingerprint},
    }
    pending = first, {"finite": True}, []
    with (
        closing(open_batches(parts, first)) as batches,
        closing(Writer(workdir, first)) as writer,
        _Signals() as signals,
    ):
        # Only now: what could not begin leaves the directory to another configuration.
        atomic.write_bytes(workdir / "config.json", config.to_json().encode())
        for step in range(first + 1, config.train.steps + 1):
            batch = next(batches)
            clips = batch.pop("clip_id")
            state, metrics = step_sharded(state, sharding.shard_batch(batch, mesh))
            check_finite(*pending)  # the step before, while the device works on this one
            pending = step, metrics, clips
            last, save = step == config.train.steps, step % config.checkpoint.every == 0 or signals.received
            if last or save:
                check_finite(*pending)
            if last or step % config.train.log_every == 0:
                values = jax.device_get(
                    {k: v for k, v in metrics.items() if k != "finite"}
                ) | progress.report(step)
                writer.scalars(step, values)
                print(progress.line(step, values), flush=True)
            if config.train.sample_every and step % config.train.sample_every == 0:
                write_sample(parts, state.ema or state.params, step, workdir, writer)
            if last or save:
                checkpoints.save(step, state, metadata)
            if signals.received:
                raise Stopped(
                    f"stopped by {signals.received} after step {step}, which is saved; the same command goes on"
                )
    return state


def start_state(parts: Parts, mesh, checkpoints: Checkpoints) -> tuple[TrainState, TrainState]:
    """The newest checkpoint, or a new state (from ``train.init_from`` if given), and how it lies on the devices."""
    config = parts.config
    make = partial(init_state, parts.model, config)
    abstract = jax.eval_shape(make)
    shardings = sharding.state_shardings(abstract, mesh)
    restored = checkpoints.restore(sharding.with_shardings(abstract, shardings))
    if restored is not None:
        return restored[0], shardings
    state = jax.jit(make, out_shardings=shardings)()
    if config.train.init_from:
        with Checkpoints(Path(config.train.init_from) / "checkpoints") as source:
            found = source.restore_part("params", state.params, optional=lambda name: MEMORY_NAME in name)
        if found is None:
            raise ConfigError(f"train.init_from={config.train.init_from}: there is no checkpoint")
        params = found[0]
        ema = state.ema and jax.tree.map(jax.numpy.copy, params)
        state = state._replace(params=params, ema=ema)
    return state, shardings


def open_batches(parts: Parts, first_step: int):
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


class _Signals:
    """Remembers SIGTERM or SIGINT instead of dying of it, so that the step at hand is finished and saved."""

    def __enter__(self):
        self.received = ""
        self._old = {s: signal.signal(s, self._remember) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _remember(self, number, _):
        self.received = signal.Signals(number).name

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)
