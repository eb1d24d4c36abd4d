"""Mazes of 5 x 5 cells at 32 pixels, trained until memory beats a look-up: two CPU cores, 40 core-minutes for each model.

    python -m rad_jax.main --config experiments/maze_memory.py:atlas-f

makes the data and trains `atlas`, our own memory. ``:bank-f``, which reads the frames seen from the nearest poses, is best
where the same poses come again, with --config.train.revisit=0.7 --config.memory.retrieved=4. ``--mode evaluate`` scores the
second lap (loop), and with --config.evaluate.path=datasets/maze_memory_return the way back.

Hardware: one of 2 CPU cores. Time: 31 min (bank-f) and 38 min (atlas-f). PSNR, loop / return: bank-f 26.82 / 18.82 dB, atlas-f
25.20 / 21.86; floors: nearest earlier view 23.61 / 16.56, mean context frame 17.73 / 17.29; ceiling, the perfect map: 29.82 /
27.16 (`docs/results/maze_memory.md`).

Frames are drawn in 3 steps: more make sharper frames that are wrong in more places, which costs PSNR. The model is
conditioned on action and pose. All settings are [ours].
"""

from experiments import base, maze_toy

SETTINGS = {
    **maze_toy.SETTINGS,
    **base.IN_MINUTES,
    "data.path": "datasets/maze_memory",
    "data.make": f"{maze_toy.MAZE} --protocol train --episodes 1024 --frames 96 && {base.FIT} --decoder-steps 600",
    "data.clip": 80,
    "model.depth": 3,
    "memory.capacity": 100,
    "memory.retrieved": 6,
    "memory.view_range": 2.0,  # half of the maze
    "memory.radius": 0.5,
    "train.steps": 1700,
    "train.batch": 4,
    "train.windows": 8,
    "evaluate.path": "datasets/maze_memory_loop",
    "evaluate.more": "return=datasets/maze_memory_return",
    "evaluate.variants": "df,lstm-f,bank-f,atlas-f",
}

get_config = base.experiment("maze_memory", SETTINGS)
