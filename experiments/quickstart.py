"""Memory at work on two CPU cores: turning in place in rooms never seen before.

A room has 12 views, 30 degrees apart. The context is one turn, in which every view is seen once; then the agent turns on and
the model predicts what comes. The window is 4 frames, a third of a turn, so only a memory can know.

    make quickstart

makes the data, trains this and its twin without memory side by side, and writes the report. Conditioned on action and
heading, as the public code of the paper's maze is. Everything here is [ours]: small enough for a CPU, by no means the
paper's sizes. The slot gates are what lets the LSTM learn it in minutes; see `rad_jax.model.mixers.lstm`.
"""

from ml_collections import ConfigDict

from experiments import base

STRIDED = 2  # stride of the strided variant: the window has only 4 frames
ROOMS = "python -m data_prep.make_maze --out {path} --protocol rotate --room --pixels 32 --supersample 2"


def get_config(variant: str | None = None) -> ConfigDict:
    """Variants df, lstm-f, lstm-c, lstm-s2 (see `experiments.base`)."""
    config = base.defaults()
    config.name = "quickstart"

    data = config.data
    data.path = "datasets/quickstart"
    data.make = (
        f"{ROOMS} --episodes 4096 && python -m data_prep.fit_tokenizer --data {{path}} --decoder-steps 600"
    )
    data.auto_make = True
    data.condition = "action+pose"
    data.heading_harmonics = 4
    data.clip = 24  # a whole episode: one turn that shows the room, then turns at random

    model = config.model
    model.width = 96
    model.depth = 2
    model.heads = 4
    model.mlp_ratio = 2.0
    model.window = 4  # a third of a turn
    model.context_level = 1
    model.dtype = "float32"
    model.remat = True  # cheaper than storing, here

    memory = config.memory
    memory.action_width = 32
    memory.gates = "slots"
    memory.gate_init = 0.5

    diffusion = config.diffusion
    diffusion.schedule = "cosine"
    diffusion.shift = 0.4
    diffusion.levels = 100
    diffusion.weighting = "uniform"

    train = config.train
    train.steps = 2600
    train.batch = 16
    train.windows = 4
    train.first_start = 10  # before that there is little to remember
    train.ema = 0.99

    optimizer = config.optimizer
    optimizer.learning_rate = 2e-3
    optimizer.weight_decay = 0.01
    optimizer.warmup = 50
    optimizer.decay = "linear"
    optimizer.decay_start = 0.5

    config.sample.steps = 8

    evaluate = config.evaluate
    evaluate.path = "datasets/quickstart_test"
    evaluate.make = f"{ROOMS} --split test --episodes 64"
    evaluate.auto_make = True
    evaluate.batch = 64
    return base.set_variant(config, variant)
