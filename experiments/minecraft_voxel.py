"""Minecraft without Minecraft: a landscape of blocks that is rendered here, at a size for one modern GPU and twenty minutes.

    python -m rad_jax.main --config experiments/minecraft_voxel.py:lstm-f
    python -m rad_jax.main --config experiments/minecraft_voxel.py:lstm-f --mode evaluate

The data are made on the way: random walks as VRAG's collector makes them, laps of polygons, ways out and back and turning in
place, in worlds none of which comes twice, written as pairs of mp4 and npz and read as VRAG's own are. Evaluated on turning in
place; --mode compare adds polygons (loop) and the way back (return). The perfect map is a row of every table.

A whole turn has 18 steps. The paper's window of 20 holds it, so that rotation in place asks nothing of a memory there; here
the window is 8 frames. Conditioned on action and pose (position from where the episode began, and heading); for actions
alone, as in the paper: --config.data.condition=action --config.model.action_dim=25. Everything here is [ours].

A step of lstm-f takes 18 TFLOP, the 4,000 steps 73 PFLOP: 12 minutes at 100 TFLOP/s (counted, not timed on a GPU).
"""

from ml_collections import ConfigDict

from experiments import base

VOXEL = "python -m data_prep.make_voxel --out {path}_vrag --size 128x128"
CONVERT = "python -m data_prep.convert --format vrag --src {path}_vrag --dst {path} --size 64x64"
WALKS = {"train": "250 --frames 301", "loop": 200, "return": 50, "rotate": 100}  # episodes to train on


def get_config(variant: str | None = None) -> ConfigDict:
    """Variants df, <memory>-f, <memory>-c, <memory>-sN (see `experiments.base`)."""
    config = base.defaults()
    config.name = "minecraft_voxel"

    data = config.data
    data.path = "datasets/minecraft_voxel"
    walks = [
        f"{VOXEL} --worker {protocol} --protocol {protocol} --split train --episodes {episodes}"
        for protocol, episodes in WALKS.items()
    ]
    data.make = " && ".join([*walks, CONVERT, "python -m data_prep.fit_tokenizer --data {path}"])
    data.auto_make = True
    data.condition = "action+pose"
    data.heading_harmonics = 4
    data.clip = 100
    data.threads = 8

    model = config.model
    model.latent = (8, 8, 16)
    model.action_dim = (
        37  # the action of Oasis, 25; x, y, z and pitch; cosine and sine of four multiples of the heading
    )
    model.width = 384
    model.depth = 8
    model.heads = 6
    model.window = 8  # less than half a turn
    model.context_level = 14

    memory = config.memory
    memory.gates = "slots"
    memory.gate_init = 0.5  # no pretrained base to protect
    memory.prefetch_segment = 48

    train = config.train
    train.steps = 4000
    train.batch = 16
    train.windows = 16
    train.first_start = 18  # before that there is little to remember
    train.sample_every = 2000

    optimizer = config.optimizer
    optimizer.learning_rate = 3e-4
    optimizer.decay = "cosine"

    config.sample.steps = 20

    evaluate = config.evaluate
    evaluate.path = "datasets/minecraft_voxel_rotate"
    evaluate.make = (
        f"{VOXEL} --protocol rotate --episodes 60 && {CONVERT} --split test --pattern rotate --context 60"
    )
    evaluate.more = "loop=datasets/minecraft_voxel_loop,return=datasets/minecraft_voxel_return"
    evaluate.more_make = f"{VOXEL} --protocol {{name}} --episodes 60 && {CONVERT} --split test"
    evaluate.auto_make = True
    evaluate.batch = 60
    evaluate.fps = 20
    return base.set_variant(config, variant)
