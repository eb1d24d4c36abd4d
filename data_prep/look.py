"""Look at a data set: a contact sheet (PNG) and a video (mp4) of each chosen episode.

    python -m data_prep.look datasets/maze9 --episodes 0 5

The sheet labels every frame with its number and action. Where the data set holds predictions of the perfect-map oracle, the
video shows them beside the truth.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from data_prep.common.command import Parser, positive, run
from rad_jax.data import DataError, Episodes
from rad_jax.files import write_bytes
from rad_jax.files.folders import check_folder
from rad_jax.media import contact_sheet, encode_picture, side_by_side, write_video

PROGRAM = "look"
_FPS = 10.0  # of data sets that do not say theirs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(PROGRAM, __doc__)
    parser.add_argument("data", type=Path, help="directory of the data set")
    parser.add_argument("--split", default="train")
    parser.add_argument("--episodes", type=int, nargs="+", default=[0], help="numbers of episodes (0)")
    parser.add_argument(
        "--frames", type=positive, default=48, help="most frames on a sheet, which are evenly spaced (48)"
    )
    parser.add_argument("--out", type=Path, help="directory of sheets and videos (DATA/look)")
    options = parser.parse_args(arguments)
    return run(PROGRAM, partial(_write_all, options), continues=False)


def _write_all(options: argparse.Namespace) -> None:
    episodes = Episodes(options.data, options.split)
    out = options.out or options.data / "look"
    if "frames" not in episodes.spec.arrays:
        raise DataError(f"{episodes} has no frames to look at; there are: {', '.join(episodes.spec.arrays)}")
    if wrong := [number for number in options.episodes if not 0 <= number < len(episodes)]:
        raise DataError(f"--episodes {wrong[0]}: {episodes} has episodes 0 to {len(episodes) - 1}")
    if options.out is None:
        check_folder(options.data)
    for number in options.episodes:
        episode = episodes.read(number)
        frames = episode["frames"]
        out.mkdir(parents=True, exist_ok=True)
        sheet, video = (out / f"{episodes.ids[number]}{suffix}" for suffix in (".png", ".mp4"))
        shown = np.arange(0, len(frames), -(-len(frames) // options.frames))
        labels = [_label(episodes, episode, t) for t in shown]
        write_bytes(sheet, encode_picture(contact_sheet(frames[shown], labels, columns=12)))
        if "oracle" in episode:
            frames = side_by_side(
                {"truth": frames, "perfect map": episode["oracle"]}, episodes.context(number)
            )
        write_video(video, frames, episodes.spec.info.get("fps", _FPS))
        print(f"{sheet}\n{video}")


def _label(episodes: Episodes, episode: dict[str, np.ndarray], t: int) -> str:
    names = episodes.spec.info.get("actions", ())
    shape, _ = episodes.spec.arrays.get("actions", (None, ""))
    if names and shape != (len(names),):
        raise DataError(f"{episodes}: info['actions'] has {len(names)} names for 'actions' of shape {shape}")
    entries = zip(names, episode["actions"][t], strict=True) if names else ()
    return " ".join(
        [str(t), *(name if value == 1 else f"{name} {value:+.2f}" for name, value in entries if value)]
    )


if __name__ == "__main__":
    sys.exit(main())
