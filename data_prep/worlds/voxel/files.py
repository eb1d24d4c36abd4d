"""Episodes as pairs of files in VRAG's layout, written whole or not at all.

    DIR/WORKER/000000.mp4   mpeg4 ("mp4v"), 20 frames per second
    DIR/WORKER/000000.npz   actions float32 (T+1, 8): forward, back, jump, turn (-1, 0, 1: 20 degrees to the right),
                            then x, y, z and yaw after the action; row 0 is zeros, its pose too
                            pose float32 (T+1, 5): x, y, z, yaw, pitch of every frame, the first one too
                            of evaluations also n_context int32 (), and oracle uint8 (T+1, H, W, 3)

VRAG's own files have ``actions`` alone; its reader ignores the rest. The npz is written last: where it is, the episode is
complete.
"""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import Float, UInt8

from data_prep.worlds.voxel.episodes import VoxelEpisode
from data_prep.worlds.voxel.motion import STEPS_PER_SECOND
from data_prep.worlds.voxel.protocols import Walk
from rad_jax.files import replacing, write_bytes

_LAMBDA = 118  # FFmpeg's unit of quality per step of the quantiser
_KEYFRAMES = 20  # frames from one keyframe to the next


def is_written(directory: Path, index: int) -> bool:
    """Whether both files of an episode are there."""
    return all(path.exists() for path in _paths(directory, index))


def write_episode(directory: Path, index: int, episode: VoxelEpisode, quality: int) -> None:
    """Writes both files of an episode. ``quality`` is the quantiser, 1 (best) to 31."""
    video, arrays = _paths(directory, index)
    with replacing(video) as temporary:
        encode_video(temporary, episode.frames, quality)
    write_bytes(arrays, _npz(episode))


def _paths(directory: Path, index: int) -> tuple[Path, Path]:
    return directory / f"{index:06d}.mp4", directory / f"{index:06d}.npz"


def action_rows(walk: Walk) -> Float[np.ndarray, "t 8"]:
    """The array ``actions`` of a walk."""
    rows = np.concatenate([walk.action, walk.pose], axis=1).astype(np.float32)
    rows[0] = 0
    return rows


def _npz(episode: VoxelEpisode) -> bytes:
    walk = episode.walk
    pose = np.pad(walk.pose, ((0, 0), (0, 1))).astype(np.float32)  # the pitch is always 0
    arrays = {"actions": action_rows(walk), "pose": pose}
    if walk.n_context is not None:
        arrays["n_context"] = np.int32(walk.n_context)
    if episode.oracle is not None:
        arrays["oracle"] = episode.oracle
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def encode_video(path: Path, frames: UInt8[np.ndarray, "t H W 3"], quality: int) -> None:
    """Writes frames as mp4 with the codec mpeg4, which halves the resolution of colour (yuv420p)."""
    with av.open(str(path), "w", format="mp4") as container:
        lagrangian = str(_LAMBDA * quality)
        options = {"flags": "+bitexact", "qmin": str(quality), "qmax": str(quality)}
        options |= {"lmin": lagrangian, "lmax": lagrangian, "b": "100M"}
        stream = container.add_stream("mpeg4", rate=Fraction(STEPS_PER_SECOND), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = _KEYFRAMES
        stream.codec_context.thread_count = 1  # the bytes are the same on every machine
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv420p", interpolation=Interpolation.AREA)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
