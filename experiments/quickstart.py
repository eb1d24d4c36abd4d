"""Memory at work on two CPU cores: turning in place, at any angle, in rooms never seen before.

    make quickstart

makes the data, trains ``lstm-f``, our own ``atlas-f`` and their twin without memory side by side, and writes the report.

Hardware: 2 CPU cores. Time: 17 min 35 s. PSNR on 64 rooms: atlas-f 27.67 dB, lstm-f 20.08, df 16.14; floors: nearest earlier
view 19.77, mean context frame 17.49; ceiling, the tokenizer's round trip: 29.35 (`docs/results/quickstart.md`).

The context is one turn of the room in some 20 frames; then the agent turns on, or back, and the model predicts. No angle
comes twice, so no view can be copied. The window of 4 frames is a fifth of a turn, so only a memory can know what comes. The
model is given the actions alone: where it looks is added up from them (``data.condition=action+odometry``). All settings are
[ours] and far below the paper's sizes. The slot gates let the LSTM learn this in minutes; see `rad_jax.model.mixers.lstm`.
"""

from experiments import base

ROOMS = "python -m data_prep.make_maze --out {path} --protocol rotate --room --turn-degrees 0 --pixels 32 --supersample 2"

SETTINGS = {
    **base.MAZES_ON_TWO_CORES,
    **base.IN_MINUTES,
    "data.path": "datasets/rooms",
    "data.make": f"{ROOMS} --episodes 3072 && {base.FIT} --decoder-steps 600",
    "data.condition": "action+odometry",
    "data.heading_harmonics": 4,
    "data.clip": 40,  # a whole episode: one turn that shows the room, then another one, or back
    "memory.capacity": 32,
    "train.steps": 720,
    "train.batch": 8,
    "train.windows": 6,
    "train.first_start": 10,  # before that there is little to remember
    "optimizer.warmup": 50,
    "evaluate.path": "datasets/rooms_test",
    "evaluate.make": f"{ROOMS} --split test --episodes 64",
    "evaluate.batch": 64,
}

get_config = base.experiment("quickstart", SETTINGS)
