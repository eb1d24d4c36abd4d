"""Minecraft without Minecraft: a landscape of blocks that is rendered here, sized for one modern GPU and twenty minutes.

    python -m rad_jax.main --config experiments/minecraft_voxel.py:lstm-f

Hardware, time and metric: not run at full size. A step of lstm-f takes 18 TFLOP, the 4,000 steps 73 PFLOP: 12 minutes at
100 TFLOP/s (counted, not timed).

The command makes the data: random walks like those of VRAG's collector, laps of polygons, ways out and back, and rotations in
place, each in a world of its own, written as VRAG's pairs of mp4 and npz and read as such. --mode evaluate makes and scores
rotations; --mode compare adds polygons (loop) and the way back (return). Every table has a row for the perfect map.

A whole turn has 18 steps. The paper's window of 20 holds it, so rotating in place asks nothing of a memory there; here the
window is 8 frames. The model is conditioned on action and pose, which is the position relative to the start of the episode and
the heading. For actions alone, as in the paper: --config.data.condition=action --config.model.action_dim=25. All settings are
[ours].
"""

from experiments import base

VOXEL = "python -m data_prep.make_voxel --out {path}_vrag --size 128x128"
CONVERT = "python -m data_prep.convert --format vrag --src {path}_vrag --dst {path} --size 64x64"
WALKS = {"train": "250 --frames 301", "loop": 200, "return": 50, "rotate": 100}  # episodes to train on
RECORD = [
    f"{VOXEL} --worker {protocol} --protocol {protocol} --split train --episodes {episodes}"
    for protocol, episodes in WALKS.items()
]
ROTATE = f"{VOXEL} --protocol rotate --episodes 60"

SETTINGS = {
    **base.ONE_GPU,
    "data.path": "datasets/minecraft_voxel",
    "data.make": " && ".join([*RECORD, CONVERT, base.FIT]),
    "data.auto_make": True,
    "data.condition": "action+pose",
    "data.heading_harmonics": 4,
    "model.latent": (8, 8, 16),
    # The 25 of Oasis's action; x, y, z and pitch; cosine and sine of four multiples of the heading.
    "model.action_dim": 37,
    "model.window": 8,  # less than half a turn
    "memory.prefetch_segment": 48,
    "train.first_start": 18,  # before that there is little to remember
    "train.sample_every": 2000,
    "evaluate.path": "datasets/minecraft_voxel_rotate",
    "evaluate.make": f"{ROTATE} && {CONVERT} --split test --pattern rotate --context 60",
    "evaluate.more": "loop=datasets/minecraft_voxel_loop,return=datasets/minecraft_voxel_return",
    "evaluate.more_make": f"{VOXEL} --protocol {{name}} --episodes 60 && {CONVERT} --split test",
    "evaluate.auto_make": True,
    "evaluate.batch": 60,
    "evaluate.fps": 20,
}

get_config = base.experiment("minecraft_voxel", SETTINGS)
