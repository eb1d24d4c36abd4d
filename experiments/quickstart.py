"""Memory at work on two CPU cores: turning in place in rooms never seen before.

    make quickstart

makes the data, trains ``lstm-f`` and its twin without memory side by side, and writes the report.

Hardware: 2 CPU cores. Time: 13 min 42 s. PSNR on 64 rooms: lstm-f 28.14 dB, df 15.42; floor, the mean
context frame: 17.43; ceiling, the tokenizer's round trip: 32.53 (`docs/results/quickstart.md`).

A room has 12 views, 30 degrees apart. The context is one turn and shows every view once; then the agent turns on and the
model predicts. The window of 4 frames is a third of a turn, so only a memory can know what comes. The model is conditioned on
action and heading, as the paper's public maze code is. All settings are [ours] and far below the paper's sizes. The slot gates
let the LSTM learn this in minutes; see `rad_jax.model.mixers.lstm`.
"""

from experiments import base

ROOMS = "python -m data_prep.make_maze --out {path} --protocol rotate --room --pixels 32 --supersample 2"

SETTINGS = {
    **base.MAZES_ON_TWO_CORES,
    "data.path": "datasets/quickstart",
    "data.make": f"{ROOMS} --episodes 4096 && {base.FIT} --decoder-steps 600",
    "data.heading_harmonics": 4,
    "data.clip": 24,  # a whole episode: one turn that shows the room, then random turns
    "model.width": 96,
    "model.window": 4,  # a third of a turn
    "train.steps": 2600,
    "train.batch": 16,
    "train.first_start": 10,  # before that there is little to remember
    "train.ema": 0.99,
    "optimizer.learning_rate": 2e-3,
    "optimizer.warmup": 50,
    "sample.steps": 8,
    "evaluate.path": "datasets/quickstart_test",
    "evaluate.make": f"{ROOMS} --split test --episodes 64",
    "evaluate.batch": 64,
}

get_config = base.experiment("quickstart", SETTINGS)
