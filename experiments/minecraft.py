"""The paper's Minecraft with its hyperparameters (Tables 2 and 3), where they are known.

    python -m rad_jax.main --config experiments/minecraft.py:lstm-f --workdir runs/minecraft/lstm-f
    python -m rad_jax.main --config experiments/minecraft.py:mamba2-f --mode plan     # what a step needs; allocates nothing

Known from the paper: window 20, 100 frames, batch 24 on 8 GPUs, 5,000 steps for each memory on one pretrained base, 50 DDIM
steps, LSTM of 1024 units, Mamba2 with states of 64, kernel 4 and expansion 2, TTT with 16 heads and mini-batches of 1. From
the authors' public code: the size of the base (that of Oasis), 8 windows of a clip in parts of 4, a frozen base, and
everything that `experiments.base` marks as [code]. The latents are those of the Oasis ViT-VAE.

`train.init_from` names the work directory of the base, a run of the variant `df` with --config.train.freeze=none.
"""

from ml_collections import ConfigDict

from experiments import base

# Memories whose states at 8 windows of one clip take gigabytes (10 for Mamba2, 5 for TTT, 0.1 for the LSTM), and their
# gradients as much again: on each device one clip of its three after another.
LARGE_STATES = ("mamba2", "ttt")


def get_config(variant: str | None = None) -> ConfigDict:
    """Variants df, <memory>-f, <memory>-c, <memory>-sN (see `experiments.base`)."""
    config = base.defaults()
    config.name = "minecraft"

    config.data.path = "datasets/minecraft"
    config.data.clip = 100  # [paper]

    model = config.model
    model.latent = (18, 32, 16)
    model.action_dim = 4  # forward, jump, two turns; [code]

    config.memory.prefetch_segment = 100  # the whole clip, layer by layer: large states are held once

    train = config.train
    train.batch = 24  # [paper]
    train.steps = 5000  # [paper]
    train.windows = 8  # [code]
    train.window_batch = 4  # [code]

    config.evaluate.path = "datasets/minecraft_test"
    config.evaluate.fps = 20
    config = base.set_variant(config, variant)
    if config.memory.kind != "none":
        train.freeze = "base"  # [code]
    if config.memory.kind in LARGE_STATES:
        train.accumulate = 3
    return config
