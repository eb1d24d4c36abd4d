"""Memory Maze 9x9 at 64 pixels, sized for one modern GPU and about twenty minutes.

    python -m rad_jax.main --config experiments/maze_small.py:lstm-f

Hardware, time and metric: not run at full size; the twenty minutes are an estimate.

The protocol is that of `experiments.maze`, the sizes are [ours]. A second lap (loop) gives a memory more to win than the way
back (return). To evaluate on it, make these episodes and give --config.evaluate.path=datasets/maze_9x9_loop:

    python -m data_prep.make_maze --out datasets/maze_9x9_loop --size 9 --protocol loop --episodes 64
"""

from experiments import base

MAZE = "python -m data_prep.make_maze --out {path} --size 9"

SETTINGS = {
    **base.ONE_GPU,
    "data.path": "datasets/maze_9x9",
    "data.make": f"{MAZE} --protocol train --episodes 1000 && {base.FIT}",
    "data.condition": "action+pose",
    "data.clip": 200,
    "memory.prefetch_segment": 60,  # a GPU has the memory for fewer, larger steps
    "evaluate.path": "datasets/maze_9x9_return",
    "evaluate.make": f"{MAZE} --protocol return --episodes 64",
    "evaluate.batch": 32,
}

get_config = base.experiment("maze_small", SETTINGS)
