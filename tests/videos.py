"""Videos and pictures as a test reads them."""

import io

import av
import numpy as np
from PIL import Image


def read_video(path):
    """All frames of a video file, (t, H, W, 3) uint8."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def read_picture(png):
    """The pixels (H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def has_colour(picture, colour):
    """Whether a pixel has exactly the colour, written as CSS writes it: #1d5fd1."""
    return np.any(np.all(picture == list(bytes.fromhex(colour[1:])), axis=-1))
