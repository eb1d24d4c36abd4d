"""Files of episodes in VRAG's layout, whole or not at all, whoever made the frames; and the commands' way to write them.

    DIR/WORKER/000000.mp4   mpeg4 ("mp4v"), 20 frames per second
    DIR/WORKER/000000.npz   actions float32 (T+1, 8): forward, back, jump, turn (-1, 0, 1: 20 degrees to the right),
                            then x, y, z and yaw after the action; row 0 is zeros, its pose too
                            pose float32 (T+1, 5): x, y, z, yaw, pitch of every frame, the first one too
                            of evaluations also n_context int32 (), and oracle uint8 (T+1, H, W, 3)

VRAG's own files have ``actions`` alone; its reader ignores the rest. The npz is written last: where it is, the episode is
complete.
"""

import argparse
import io
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import UInt8
from numpy.typing import ArrayLike

from data_prep.common.command import Parser, natural
from data_prep.common.progress_bar import ProgressBar
from data_prep.worlds import recipe as recipes
from data_prep.worlds.recipe import RecipeError
from data_prep.worlds.voxel.motion import STEPS_PER_SECOND
from data_prep.worlds.voxel.protocols import Walk
from data_prep.worlds.voxel.recipe import Recipe
from rad_jax.data import DataError
from rad_jax.data.shards import refuse_change
from rad_jax.files import FileLock, Locked, remove_temporaries, replacing, write_bytes, write_json
from rad_jax.files.json_files import read_json

_LAMBDA = 118  # FFmpeg's unit of quality per step of the quantiser
_KEYFRAMES = 20  # frames from one keyframe to the next

Frame = UInt8[np.ndarray, "H W 3"]


class VoxelEpisode(NamedTuple):
    """A walk, its frames, and for an evaluation what the perfect-map oracle shows in their place."""

    walk: Walk
    frames: UInt8[np.ndarray, "t H W 3"]
    oracle: UInt8[np.ndarray, "t H W 3"] | None


def new_parser(program: str, description: str | None, kind: type[Recipe]) -> Parser:
    """A parser of the options of a recipe, and of which share of the episodes to write."""
    parser = recipes.new_parser(program, description, kind)
    parser.add_argument("--worker", default="0", type=_folder, help="folder under --out (0)")
    parser.add_argument("--first", default=0, type=natural, help="index of the first episode (0)")
    return parser


def _folder(name: str) -> str:
    if Path(name).name != name or name.startswith("."):
        raise argparse.ArgumentTypeError(f"{name!r} is not the name of a folder")
    return name


def write(options: argparse.Namespace, recipe: Recipe, make: Callable[[Recipe, int], VoxelEpisode]) -> None:
    """Write the episodes that the options ask for, or those that are missing, with a progress bar; ``make`` makes one.

    Raises:
      RecipeError: the indices of the episodes do not fit into the names of files.
      DataError: the directory holds episodes of another recipe, or another process is writing to it.
    """
    end = options.first + options.episodes
    if end > 10**6:
        raise RecipeError(f"first + episodes: {end} does not fit into names of 6 digits")
    directory, indices = options.out / options.worker, range(options.first, end)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(directory / ".lock")
    except Locked as error:
        raise DataError(f"{error.owner} is writing to {directory}: give each a --worker of its own") from None
    with lock, ProgressBar(f"{directory} {recipe.protocol}") as bar:
        if lock.exclusive:
            remove_temporaries(directory, "*")
        _claim(directory / "recipe.json", recipe)
        unwritten = missing(directory, indices)
        written = len(indices) - len(unwritten)
        bar(written, len(indices))
        for done, index in enumerate(unwritten, written + 1):
            write_episode(directory, index, make(recipe, index), recipe.quality)
            bar(done, len(indices))


def _claim(path: Path, recipe: Recipe) -> None:
    """Writes the recipe of a directory, or compares it with the one that is there."""
    wanted = recipe.as_info()
    if not path.exists():
        write_json(path, wanted)
    try:
        found = read_json(path)
    except ValueError as error:
        raise DataError(
            f"{path} is damaged ({error}): delete it if its episodes are those of this recipe"
        ) from None
    refuse_change(path.parent, path.name, {"recipe": found}, {"recipe": wanted})


def write_episode(directory: Path, index: int, episode: VoxelEpisode, quality: int) -> None:
    """Writes both files of an episode. ``quality`` is the quantiser, 1 (best) to 31."""
    walk = episode.walk
    rows = np.concatenate([walk.action, walk.pose], axis=1).astype(np.float32)
    rows[0] = 0
    pitched = np.pad(walk.pose, ((0, 0), (0, 1)))  # the pitch is always 0
    arrays = {"actions": rows, "pose": pitched.astype(np.float32)}
    if walk.n_context is not None:
        arrays["n_context"] = np.int32(walk.n_context)
    if episode.oracle is not None:
        arrays["oracle"] = episode.oracle
    codec = {"flags": "+bitexact", "g": _KEYFRAMES, "qmin": quality, "qmax": quality, "b": "100M"}
    codec |= {"lmin": _LAMBDA * quality, "lmax": _LAMBDA * quality}
    codec["threads"] = 1  # the bytes are the same on every machine
    write_pair(directory, index, episode.frames, arrays, codec, Interpolation.AREA)


def write_pair(
    directory: Path,
    index: int,
    frames: Iterable[Frame],
    arrays: Mapping[str, ArrayLike],
    codec: Mapping[str, object],
    interpolation: Interpolation,
) -> None:
    """Writes the files of an episode; what iterating over the frames raises leaves none of them.

    Args:
      directory: the worker's.
      index: number of the episode.
      frames: all of one size, with even sides.
      arrays: of the npz. They are stored after the last frame, so making the frames may fill them.
      codec: FFmpeg's options of mpeg4.
      interpolation: by which the resolution of colour is halved (yuv420p).
    """
    video, file = _paths(directory, index)
    with replacing(video) as temporary:
        with av.open(str(temporary), "w", format="mp4") as container:
            options = {name: str(value) for name, value in codec.items()}
            stream = container.add_stream("mpeg4", rate=Fraction(STEPS_PER_SECOND), options=options)
            stream.pix_fmt = "yuv420p"
            for number, image in enumerate(frames):
                if number == 0:
                    stream.height, stream.width = image.shape[:2]
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p", interpolation=interpolation)))
            container.mux(stream.encode(None))
        file.unlink(missing_ok=True)  # of a pair that was half written
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_bytes(file, content.getvalue())


def missing(directory: Path, indices: Iterable[int]) -> list[int]:
    """The episodes of which a file is missing."""
    return [index for index in indices if not all(path.exists() for path in _paths(directory, index))]


def _paths(directory: Path, index: int) -> tuple[Path, Path]:
    return directory / f"{index:06d}.mp4", directory / f"{index:06d}.npz"
