"""Memory Maze 9x9 at 64 pixels, sized for one modern GPU and about twenty minutes.

    python -m rad_jax.main --config experiments/maze_small.py:lstm-f
    python -m rad_jax.main --config experiments/maze_small.py:lstm-f --mode evaluate

Hardware, time and metric: not run at full size; the twenty minutes are an estimate.

The protocol is that of `experiments.maze`, the sizes are [ours]. A second lap (loop) gives a memory more to win than the way
back (return). To evaluate on it, make these episodes and give --config.evaluate.path=datasets/maze_9x9_loop:

    python -m data_prep.make_maze --out datasets/maze_9x9_loop --size 9 --protocol loop --episodes 64
"""

from ml_collections import ConfigDict

from experiments import base

MAZE = "python -m data_prep.make_maze --out {path} --size 9"


def get_config(variant: str | None = None) -> ConfigDict:
    """Any variant of `experiments.base.set_variant`."""
    config = base.defaults()
    config.name = "maze_small"

    data = config.data
    data.path = "datasets/maze_9x9"
    data.make = (
        f"{MAZE} --protocol train --episodes 1000 && python -m data_prep.fit_tokenizer --data {{path}}"
    )
    data.condition = "action+pose"
    data.clip = 200
    data.threads = 8

    model = config.model
    model.width = 384
    model.depth = 8
    model.heads = 6

    memory = config.memory
    memory.gates = "slots"
    memory.gate_init = 0.5  # no pretrained base to protect
    memory.prefetch_segment = 60  # a GPU has the memory for fewer, larger steps

    train = config.train
    train.steps = 4000
    train.batch = 16
    train.windows = 16

    optimizer = config.optimizer
    optimizer.learning_rate = 3e-4
    optimizer.decay = "cosine"

    config.sample.steps = 20

    evaluate = config.evaluate
    evaluate.path = "datasets/maze_9x9_return"
    evaluate.make = f"{MAZE} --protocol return --episodes 64"
    evaluate.batch = 32
    return base.set_variant(config, variant)
