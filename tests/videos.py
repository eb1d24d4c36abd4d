"""Reads videos back."""

import av
import numpy as np


def read_video(path):
    """All frames of a video file, (t, H, W, 3) uint8."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
