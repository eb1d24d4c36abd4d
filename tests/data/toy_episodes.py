"""A tiny data set for the tests of rad_jax.data: episode i has 11 + 3 i frames, all values a function of i."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rad_jax.data import Episode, Episodes, EpisodeSpec, write_split

SPEC = EpisodeSpec(
    name="toy",
    arrays={"frames": ((2, 3, 3), "uint8"), "actions": ((4,), "float32"), "pose": ((4,), "float32")},
    statics={"n_context": ((), "int32"), "layout": ((2, 2), "uint8")},
    info={
        "actions": list("abcd"),
        "pose": ["x", "y", "cos", "sin"],
        "pose_scale": [0.5, 0.25, 1, 1],
        "seed": 3,
    },
    chunk=4,
)


def episode(index: int) -> Episode:
    """Returns episode `index` as it is given to the writer."""
    rng = np.random.default_rng(index)
    frames = 11 + 3 * index
    heading = rng.uniform(-np.pi, np.pi, frames)
    position = rng.uniform(0, 4, (frames, 2))
    return {
        "frames": rng.integers(0, 256, (frames, 2, 3, 3), np.uint8),
        "actions": np.eye(4, dtype=np.float32)[rng.integers(0, 4, frames)],
        "pose": np.column_stack([position, np.cos(heading), np.sin(heading)]).astype(np.float32),
        "n_context": np.int32(index),
        "layout": np.full((2, 2), index, np.uint8),
    }


def make_episodes(indices: range) -> Iterator[Episode]:
    return map(episode, indices)


def write(
    directory: Path, num_episodes: int = 7, episodes_per_shard: int = 3, split: str = "train"
) -> Episodes:
    """Writes the data set and opens it."""
    write_split(directory, split, SPEC, make_episodes, num_episodes, episodes_per_shard=episodes_per_shard)
    return Episodes(directory, split)


def content(directory: Path) -> dict[str, bytes]:
    """Returns every file below a directory by path, except for locks, which name their last owner."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}
