"""Every reader of the program, with small files that it reads.

A reader is made in an empty directory: it writes its files, and gives those that are to be damaged and the call that reads.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rad_jax.errors import UserError
from tests.data_prep.recordings.format_files import WRITERS
from tests.fuzz.run_readers import (
    Made,
    config,
    export,
    manifest,
    metrics,
    save_patch_pca,
    scores,
    shown_videos,
    stored_config,
    trained_on,
    whole_checkpoint,
)


class Reader(NamedTuple):
    """``share`` of the inputs it is given, because some are slow; ``allowed`` errors are those that it documents."""

    make: Callable[[Path], Made]
    share: float = 1.0
    allowed: tuple[type[Exception], ...] = (UserError,)


def safetensors(folder: Path) -> Made:
    from safetensors.numpy import save_file

    from rad_jax.weights.tensors import read_metadata, read_tensors

    path = folder / "x.safetensors"
    floats = {f"net.{n}": np.full((2, n), 0.5, "f4") for n in range(4)}
    save_file({**floats, "half": np.ones(3, "f2"), "count": np.arange(3)}, path, {"note": "text"})
    return [path], lambda: (read_tensors(path), read_metadata(path))


def sharded(folder: Path) -> Made:
    from rad_jax.weights.tensors import read_tensors

    (shard,), _ = safetensors(folder)
    names = ("net.0", "net.1", "net.2", "net.3", "half", "count")
    index = folder / "x.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, shard.name)}))
    return [index, index, shard], lambda: read_tensors(index)


def oasis_dit(folder: Path) -> Made:
    from safetensors.torch import save_file

    from rad_jax.weights import import_oasis_dit
    from tests.weights.oasis_torch import random_weights

    save_file(random_weights(32, 1, head_width=16, hidden=1, channels=2), folder / "x.safetensors")
    return [folder / "x.safetensors"], lambda: import_oasis_dit(folder / "x.safetensors")


def tokenizer(name: str, save: Callable[[Path], Path], beside: bool = False) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        from rad_jax import tokenizer as tokenizers

        path = save(folder)
        return [folder / "config.json" if beside else path], lambda: tokenizers.load(name, path)

    return make


def save_sd_vae(folder: Path) -> Path:
    from tests.tokenizer.random_weights import save_sd_vae

    return save_sd_vae(folder)


def save_taesd(folder: Path) -> Path:
    from tests.tokenizer.random_weights import save_taesd

    return save_taesd(folder)


def save_oasis_vae(folder: Path) -> Path:
    from rad_jax.tokenizer.oasis_vae import CONFIG, ViTVAE
    from tests.tokenizer.random_weights import save_random

    (folder / "config.json").write_text(json.dumps(dict(zip(CONFIG, (8, 8, 1, 1)))))
    return save_random(folder, ViTVAE(4, (2, 2), 4, (1, 1), (16, 16), (32, 32), (1, 1)), (1, 8, 8, 3))


def lpips(folder: Path) -> Made:
    from rad_jax.metrics.lpips import Network, load_lpips
    from tests.tokenizer.random_weights import save_random

    path = save_random(folder, Network("alex"), (1, 31, 31, 3), (1, 31, 31, 3))
    return [path], lambda: load_lpips(path)


def torch_file(zipped: bool) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        import torch

        from data_prep.common.torch_files import read_torch

        content = {
            "a": torch.arange(12.0).reshape(3, 4).T,
            "b": [np.arange(3), {"n": np.int64(7)}, ("x", None, 2.5)],
        }
        torch.save(content, folder / "x.pt", _use_new_zipfile_serialization=zipped)
        return [folder / "x.pt"], lambda: read_torch(folder / "x.pt")

    return make


def data_set(folder: Path) -> tuple[Path, Path]:
    from tests.data import toy_episodes

    toy_episodes.write(folder, num_episodes=2, episodes_per_shard=2)
    (shard,) = folder.glob("*array_record*")
    return folder / "index.json", shard


def open_episodes(folder: Path) -> None:
    from rad_jax.config import DataConfig
    from rad_jax.data import Episodes
    from rad_jax.data.condition import condition_features
    from rad_jax.data.reader import frame_size

    episodes = Episodes(folder, "train")
    frame_size(episodes)
    arrays = episodes.read(0)
    for condition in ("action", "action+pose"):
        condition_features(episodes.spec, arrays, DataConfig(condition=condition))
    episodes.static(0)


def episode_index(folder: Path) -> Made:
    index, _ = data_set(folder)
    return [index], lambda: open_episodes(folder)


def episode_shard(folder: Path) -> Made:
    _, shard = data_set(folder)
    return [shard], lambda: open_episodes(folder)


def example_record(folder: Path) -> Made:
    from rad_jax.data import example

    path = folder / "record"
    path.write_bytes(example.encode({"frames": bytes(200), "episode_id": b"train-000000", "chunk": bytes(4)}))
    return [path], lambda: example.decode(path.read_bytes())


def progress(folder: Path) -> Made:
    from rad_jax.data import writer
    from rad_jax.data.shards import SplitLayout, read_entries, read_layouts
    from tests.data import toy_episodes

    layout = SplitLayout(folder, "train", toy_episodes.SPEC, 2, 1)
    writer.begin(layout)
    writer.write_shard(layout, 0, toy_episodes.make_episodes)
    files = [folder / "train.progress" / name for name in ("plan.json", "00000.json")]
    return files, lambda: (read_entries(layout), read_layouts(folder))


def tfds_metadata(folder: Path) -> Made:
    from rad_jax.data import EpisodeSpec, write_split
    from rad_jax.data.tfds_builders import RadMaze

    spec = EpisodeSpec("walks", {"actions": ((6,), "float32")})
    write_split(
        folder,
        "train",
        spec,
        lambda at: ({"actions": np.zeros((3, 6), "f4")} for _ in at),
        2,
        episodes_per_shard=2,
    )
    return [folder / "features.json", folder / "dataset_info.json"], lambda: RadMaze(data_dir=folder)


def actions(folder: Path, text: bool, condition: str = "action") -> Made:
    import dataclasses

    from rad_jax.rollout.video import read_script
    from tests.data import toy_episodes

    run = config()
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, condition=condition))
    path = folder / ("script.txt" if text else "script.npz")
    if text:
        path.write_text("a*3,b,c*10,d")
        return [path], lambda: read_script(path.read_text(errors="replace"), toy_episodes.SPEC.info, run)
    episode = toy_episodes.episode(0)
    np.savez_compressed(path, actions=episode["actions"], pose=episode["pose"])
    return [path], lambda: read_script(str(path), toy_episodes.SPEC.info, run)


def recording(writer: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        from data_prep import recordings

        WRITERS[writer](folder)
        name = writer.partition("-")[0]
        (candidate,) = recordings.find(name, folder)
        frames = recordings.read(name, candidate).video_frames
        files = [path for path in candidate.files.values() if path.suffix not in (".mp4", ".avi")]
        return files, lambda: recordings.read(name, candidate, video_frames=frames)

    return make


def video(codec: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        from data_prep.recordings.video import read_frames
        from tests.data_prep.recordings.format_files import write_video

        path = folder / "x.mp4"
        write_video(path, codec, 4)
        return [path], lambda: list(read_frames(path, 0, 4, (8, 8)))

    return make


def journal(folder: Path) -> Made:
    from data_prep.recordings import survey

    traits = {"arrays": {"frames": [[4, 4, 3], "uint8"]}, "statics": {}, "pose": []}
    numbers = {
        "num_frames": 3,
        "video_frames": 3,
        "num_bytes": 10,
        "n_context": None,
        "pattern": None,
        "pattern_context": None,
    }
    entry = {"state": [[".mp4", 1, 1]], "found": {"id": "a", "traits": traits, "notes": [], **numbers}}
    path = folder / survey.JOURNAL
    path.write_text("head\n" + json.dumps(entry))
    return [path], lambda: survey._read_journal(path, "head")


def recipe(folder: Path) -> Made:
    from data_prep.worlds.voxel.episodes import _claim
    from data_prep.worlds.voxel.recipe import Recipe

    path, wanted = folder / "recipe.json", Recipe(protocol="train")
    _claim(path, wanted)
    return [path], lambda: _claim(path, wanted)


READERS = {
    "safetensors": Reader(safetensors),
    "sharded safetensors": Reader(sharded),
    "oasis_dit": Reader(oasis_dit, 0.1),
    "sd_vae": Reader(tokenizer("sd_vae", save_sd_vae), 0.02),
    "sd_vae config": Reader(tokenizer("sd_vae", save_sd_vae, beside=True), 0.02),
    "oasis_vae": Reader(tokenizer("oasis_vae", save_oasis_vae), 0.05),
    "oasis_vae config": Reader(tokenizer("oasis_vae", save_oasis_vae, beside=True), 0.05),
    "taesd": Reader(tokenizer("taesd", save_taesd), 0.05),
    "lpips": Reader(lpips, 0.02),
    "tokenizer": Reader(tokenizer("patch_pca", save_patch_pca)),
    "tokenizer with decoder": Reader(tokenizer("patch_pca", lambda folder: save_patch_pca(folder, True))),
    "torch": Reader(torch_file(zipped=True)),
    "torch legacy": Reader(torch_file(zipped=False)),
    "index": Reader(episode_index),
    "shard": Reader(episode_shard),
    "example": Reader(example_record, allowed=(ValueError,)),
    "progress": Reader(progress),
    "tfds": Reader(tfds_metadata, 0.05),
    "stored config": Reader(stored_config),
    "trained_on": Reader(trained_on),
    "manifest": Reader(manifest),
    "checkpoint": Reader(whole_checkpoint, 0.2),
    "metrics": Reader(metrics, 0.2),
    "scores": Reader(scores),
    "shown videos": Reader(shown_videos),
    "export config": Reader(lambda folder: export(folder, "config.json"), 0.1),
    "export safetensors": Reader(lambda folder: export(folder, "model.safetensors")),
    "actions text": Reader(lambda folder: actions(folder, text=True)),
    "actions file": Reader(lambda folder: actions(folder, text=False)),
    "actions and pose file": Reader(lambda folder: actions(folder, False, "action+pose")),
    **{f"recording {name}": Reader(recording(name)) for name in WRITERS},
    **{f"video {codec}": Reader(video(codec), 0.1) for codec in ("mp4v", "mjpg", "h264")},
    "journal": Reader(journal),
    "recipe": Reader(recipe),
}
