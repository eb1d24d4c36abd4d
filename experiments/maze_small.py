"""Memory Maze 9x9 at 64 pixels, small enough for one modern GPU and about twenty minutes.

    python -m rad_jax.main --config experiments/maze_small.py:lstm-f

The protocol is that of `experiments.maze`; the sizes are ours. For episodes whose second lap is predicted, where memory
has more to win than on the way back, make the loop protocol beside the default:

    python -m data_prep.make_maze --out datasets/maze_9x9_loop --size 9 --protocol loop --episodes 64

and evaluate with --config.evaluate.path=datasets/maze_9x9_loop.
"""

from ml_collections import ConfigDict

from experiments import base

MAZE = "python -m data_prep.make_maze --out {path} --size 9"


def get_config(variant: str | None = None) -> ConfigDict:
    """Variants df, lstm-f, lstm-c, lstm-sN (see `experiments.base`)."""
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
    memory.prefetch_segment = 60  # the states of a GPU's memory buy fewer, larger steps

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
