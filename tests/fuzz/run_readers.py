"""Readers of what a run keeps, with small files that they read; as in `tests.fuzz.readers`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Made = tuple[Sequence[Path], Callable[[], Any]]


def save_patch_pca(folder: Path, decoder: bool = False) -> Path:
    from rad_jax.tokenizer import patch_pca

    pictures = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    pca = patch_pca.fit(pictures, 4, 3)
    if decoder:
        pca = pca.with_decoder(pictures, 1, 0)
    pca.save(folder / "tokenizer.npz")
    return folder / "tokenizer.npz"


def config() -> Any:
    from rad_jax.config import load_config

    settings = {
        "data.condition": "action",
        "model.latent": (4, 4, 3),
        "model.action_dim": 4,
        "model.width": 16,
        "model.heads": 2,
        "model.depth": 1,
    }
    return load_config("experiments/quickstart.py:df", settings)


def stored_config(folder: Path) -> Made:
    from rad_jax.runs.stored_config import read_config

    (folder / "config.json").write_text(config().to_json())
    return [folder / "config.json"], lambda: read_config(folder)


def trained_on(folder: Path) -> Made:
    from rad_jax.runs.trained_on import FILE, FORMAT, TrainedOn

    texts = {"tokenizer": "patch_pca", "fingerprint": "0" * 64, "file": "tokenizer.npz", "digest": "1" * 64}
    info = {"actions": ["a"], "pose": ["x"]}
    odometry = {"plane": [0, 1], "scale": [0.5, 0.5], "now": [[0.1, 0.2, 0.0]], "past": [[[[0.0, 0.1, 0.0]]]]}
    facts = {"format": FORMAT, **texts, "frame_size": [16, 16], "info": info, "odometry": odometry}
    (folder / FILE).write_text(json.dumps(facts))
    return [folder / FILE], lambda: TrainedOn.read(folder)


def checkpoint(folder: Path) -> Path:
    from rad_jax.config import CheckpointConfig
    from rad_jax.runs.checkpoints import Checkpoints

    state = {"params": {"a": np.arange(4.0, dtype="f4")}, "ema": {"a": np.ones(4, "f4")}}
    with Checkpoints(folder / "checkpoints", CheckpointConfig()) as checkpoints:
        checkpoints.save(
            3, state, {"hardware": "none", "tokenizer": {"name": "patch_pca", "fingerprint": "0" * 64}}
        )
    return folder / "checkpoints" / "3"


def manifest(folder: Path) -> Made:
    from rad_jax.runs import manifest

    step = checkpoint(folder)
    return [step / manifest.FILE], lambda: (manifest.read(step), manifest.saved_steps(step.parent))


def whole_checkpoint(folder: Path) -> Made:
    from rad_jax.runs.checkpoints import read_part

    step = checkpoint(folder)
    return sorted(path for path in step.rglob("*") if path.is_file()), lambda: read_part(
        step.parent, "params"
    )


def metrics(folder: Path) -> Made:
    from rad_jax.comparison.costs import read_costs
    from rad_jax.reports.hardware import PEAK_PROCESS, STEP_SECONDS

    checkpoint(folder)
    stored_config(folder)
    lines = [{"step": n, "loss": 0.5, PEAK_PROCESS: 10**9, STEP_SECONDS: 0.1} for n in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [folder / "metrics.jsonl"], lambda: read_costs(folder, 3)


def scores(folder: Path) -> Made:
    from rad_jax.evaluation import stored
    from rad_jax.evaluation.scores import convention
    from rad_jax.metrics.video import REDUCTION

    metrics = [name for name in REDUCTION if name != "lpips"]
    video = {"video": dict.fromkeys(metrics, 0.5), "frames": {metric: [0.5, None] for metric in metrics}}
    about = {"name": "a", "context_frames": 3, "predicted_frames": 2}
    key = {"format": stored.FORMAT, "metrics": convention((16, 16), "raw", None)}
    row = {"kind": "model", "note": "", "videos": [video, video]}
    costs = {"hardware": "none", "seconds": 1.0}
    stored._write_json(
        folder, "test", {"key": key, "videos": [about, about], "rows": {"a": row}, "about": costs}
    )
    assert stored.is_current(folder, {"test": key})
    read = lambda: stored.is_current(folder, {"test": key}) and stored.read_scores(folder, "test")  # noqa: E731
    return [stored._path(folder, "test")], read


def shown_videos(folder: Path) -> Made:
    from rad_jax.evaluation import stored

    path = stored._path(folder, "test", "npz")
    path.parent.mkdir()
    np.savez_compressed(path, **{str(n): np.zeros((3, 4, 4, 3), np.uint8) for n in range(2)})
    return [path], lambda: stored.read_shown(folder, "test")


def export(folder: Path, named: str) -> Made:
    from safetensors.numpy import save_file

    from rad_jax.arrays import fingerprint
    from rad_jax.model.names import parameter_shapes
    from rad_jax.runs.export import CONFIG, FORMAT, METADATA, TENSORS, description_of, load_pretrained
    from rad_jax.tokenizer import load

    tensors = {name: np.zeros(shape, "f4") for name, shape in parameter_shapes(config().model).items()}
    weights = load("patch_pca", save_patch_pca(folder)).fingerprint
    description = {
        "format": FORMAT,
        "config": config().to_dict(),
        "parameters": "ema",
        "step": 3,
        "sha256": fingerprint(tensors),
        "tokenizer": {"name": "patch_pca", "fingerprint": weights, "file": "tokenizer.npz"},
        "data": {"actions": ["a"]},
        "frame_size": [16, 16],
    }
    (folder / CONFIG).write_text(json.dumps(description))
    save_file(tensors, folder / TENSORS, {METADATA: json.dumps(description)})
    if named == CONFIG:
        return [folder / CONFIG], lambda: load_pretrained(folder)
    return [folder / TENSORS], lambda: description_of(folder / TENSORS)
