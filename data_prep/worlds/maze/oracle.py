"""The perfect-map oracle: what a predictor would show that knows the whole map, but places itself by its context.

For every predicted frame the world is rendered from the nearest position of the context with the true
heading. It is a ceiling beside the scores of a model: it does not know where exactly the agent is, it knows
everything else.
"""

import numpy as np
from jaxtyping import Float  # rad_jax.axes loads JAX, which other renderers do without


def oracle_poses(pose: Float[np.ndarray, "t 4"], n_context: int) -> Float[np.ndarray, "t 4"]:
    """The poses to render from: of the context as they are, of later frames with the nearest context position.

    Args:
      pose: x, y, cosine and sine of the heading of every frame.
      n_context: frames of the context, at least 1.
    """
    predicted = pose[n_context:]
    context_positions = pose[:n_context, :2]
    distance = np.linalg.norm(predicted[:, None, :2] - context_positions, axis=-1)
    nearest = context_positions[distance.argmin(axis=1)]
    return np.concatenate([pose[:n_context], np.concatenate([nearest, predicted[:, 2:]], axis=1)])
