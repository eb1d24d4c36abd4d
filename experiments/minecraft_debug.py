"""The whole Minecraft path on a CPU in less than a minute: it shows that everything works, and learns next to nothing.

    python -m rad_jax.main --config experiments/minecraft_debug.py
    python -m rad_jax.main --config experiments/minecraft_debug.py --mode evaluate

Hardware: 2 CPU cores. Time, nothing cached: training 29.9 s, evaluation 17.7 s. Metric: none worth a look after 40 steps.

The first command renders walks in voxel worlds into VRAG's files, converts them, fits a tokenizer and trains; the second
renders rotations in place and scores the model on them. Every step is the one of the large experiments, at 32 pixels.

It also takes recordings in any format of `data_prep.convert`, such as Luanti's (`data_prep.make_luanti`). Convert them to
32x32, fit a tokenizer (`data_prep.fit_tokenizer`) and give --config.data.path=DIRECTORY --config.evaluate.path=DIRECTORY.
All settings are [ours].
"""

from experiments import base

VOXEL = "python -m data_prep.make_voxel --out {path}_vrag --size 64x64"
CONVERT = "python -m data_prep.convert --format vrag --src {path}_vrag --dst {path} --size 32x32"
ROTATE = f"{VOXEL} --protocol rotate --episodes 4 --frames 36 --context 22"

SETTINGS = {
    **base.TWO_CORES,
    "data.path": "datasets/minecraft_debug",
    "data.make": f"{VOXEL} --protocol train --episodes 12 --frames 61 && {CONVERT} && {base.FIT}",
    "data.clip": 24,
    "model.width": 32,
    "model.heads": 2,
    "model.window": 4,
    "model.remat": False,
    "memory.action_width": 16,
    "memory.head_width": 16,
    "memory.state": 16,
    "train.steps": 40,
    "train.batch": 4,
    "train.ema": 0.9,
    "train.log_every": 10,
    "train.sample_every": 0,
    "optimizer.learning_rate": 2e-3,
    "optimizer.warmup": 10,
    "checkpoint.every": 40,
    "sample.steps": 4,
    "evaluate.path": "datasets/minecraft_debug_test",
    "evaluate.make": f"{ROTATE} && {CONVERT} --split test --pattern rotate --context 22",
    "evaluate.side_by_side": 2,
    "evaluate.fps": 20,
}

get_config = base.experiment("minecraft_debug", SETTINGS)
