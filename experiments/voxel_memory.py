"""Memories in a landscape of blocks at 32 pixels, given the actions alone: two CPU cores.

    python -m rad_jax.main --config experiments/voxel_memory.py:atlas-f

makes the data, which are recordings in VRAG's layout, and trains. ``--mode evaluate`` scores rotations in place; --mode compare
adds the way back from a walk (return).

Hardware, time and metric: not run.

Rotations have steps of 20 degrees, so that every view comes again exactly, and a look-up by the true heading is right but for
the losses of the video: it is the ceiling there. On the way back nothing comes again from the same side. The window of 4
frames is less than a quarter of a turn. All settings are [ours].
"""

from experiments import base

VOXEL = "python -m data_prep.make_voxel --out {path}_vrag --size 64x64"
CONVERT = "python -m data_prep.convert --format vrag --src {path}_vrag --dst {path} --size 32x32"
WALKS = {"rotate": 600, "return": 300, "loop": 100}  # episodes to train on, by the protocol that they follow
RECORD = [
    f"{VOXEL} --worker {protocol} --protocol {protocol} --split train --episodes {episodes} --frames 61"
    for protocol, episodes in WALKS.items()
]
EVALUATION = "--episodes 32 --frames 60"

SETTINGS = {
    **base.MAZES_ON_TWO_CORES,
    **base.IN_MINUTES,
    "data.path": "datasets/voxel_memory",
    "data.make": " && ".join([*RECORD, CONVERT, f"{base.FIT} --decoder-steps 600"]),
    "data.condition": "action+odometry",
    "data.heading_harmonics": 4,
    "data.clip": 48,
    "memory.capacity": 40,
    "train.steps": 720,
    "train.batch": 8,
    "train.windows": 6,
    "train.first_start": 10,
    "optimizer.warmup": 50,
    "evaluate.path": "datasets/voxel_memory_rotate",
    "evaluate.make": f"{VOXEL} --protocol rotate {EVALUATION} && {CONVERT} --split test --pattern rotate --context 36",
    "evaluate.more": "return=datasets/voxel_memory_return",
    "evaluate.more_make": f"{VOXEL} --protocol {{name}} {EVALUATION} && {CONVERT} --split test",
    "evaluate.batch": 32,
    "evaluate.fps": 20,
}

get_config = base.experiment("voxel_memory", SETTINGS)
