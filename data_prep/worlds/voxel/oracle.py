"""The perfect-map oracle: what a predictor would show that knows the whole world, but places itself by its context.

For every predicted frame the world is rendered from the nearest position of the context with the true heading.
"""

import numpy as np
from jaxtyping import Float

from data_prep.worlds.voxel.terrain import SIZE


def oracle_poses(pose: Float[np.ndarray, "t 4"], n_context: int) -> Float[np.ndarray, "t 4"]:
    """The poses to render from: of the context as they are, of later frames with the nearest context position.

    Args:
      pose: x, y, z and yaw of every frame.
      n_context: frames of the context, at least 1.
    """
    context, predicted = pose[:n_context], pose[n_context:]
    offset = predicted[:, None, :3] - context[:, :3]
    around = offset[..., [0, 2]]
    offset[..., [0, 2]] = np.mod(around + SIZE / 2, SIZE) - SIZE / 2  # the short way around the world
    nearest = context[np.linalg.norm(offset, axis=-1).argmin(axis=1), :3]
    return np.concatenate([context, np.concatenate([nearest, predicted[:, 3:]], axis=1)])
