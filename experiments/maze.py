"""The paper's Memory Maze 15x15 with its hyperparameters (Tables 1, 4 and 5), where they are known.

    python -m rad_jax.main --config experiments/maze.py:lstm-f --workdir runs/maze/lstm-f

Known from the paper: window 20, 1001 frames, batch 64, 3 epochs over about 30,000 videos, 50 DDIM steps, LSTM of 1024
units. From the authors' public code: 12 blocks, 64 windows of a clip in parts of 8, condition of 10 numbers (action,
position, heading), and everything that `experiments.base` marks as [code]. Ours: the average of parameters, and for want of
the Stable Diffusion VAE the patch-PCA tokenizer, whose 8x8x16 latents give the same 16 tokens as the paper's 8x8x4. The
episodes are of the ray-cast maze of `data_prep`, which has the actions, cameras and kinematics of the real one.

For the paper's text instead of its code, which gives the pose away: --config.data.condition=action
"""

from ml_collections import ConfigDict

from experiments import base

EPISODES = 30_000  # [paper]
MAZE = "python -m data_prep.make_maze --out {path} --size 15"


def get_config(variant: str | None = None) -> ConfigDict:
    """Variants df, lstm-f, lstm-c, lstm-sN (see `experiments.base`)."""
    config = base.defaults()
    config.name = "maze"

    data = config.data
    data.path = "datasets/maze_15x15"
    data.make = (
        f"{MAZE} --protocol train --episodes {EPISODES} && python -m data_prep.fit_tokenizer --data {{path}}"
    )
    data.condition = "action+pose"  # [code]
    data.clip = 1001  # [paper]

    config.model.depth = 12  # [code]

    train = config.train
    train.batch = 64  # [paper]
    train.steps = 3 * EPISODES // train.batch  # three epochs [paper]
    train.windows = 64  # [code]
    train.window_batch = 8  # [code]
    train.ema = 0.99  # [ours]: a run of 1,400 steps is short

    evaluate = config.evaluate
    evaluate.path = "datasets/maze_15x15_return"
    evaluate.make = (
        f"{MAZE} --protocol return --episodes 200"  # [paper]: 200 videos out and back, 60 % context
    )
    return base.set_variant(config, variant)
