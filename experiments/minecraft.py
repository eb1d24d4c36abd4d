"""The paper's Minecraft with every hyperparameter that is known (Tables 2 and 3).

    python -m rad_jax.main --config experiments/minecraft.py:lstm-f
    python -m rad_jax.main --config experiments/minecraft.py:mamba2-f --mode plan     # what a step needs; allocates nothing

Hardware: batch and steps are those of the paper's 8 GPUs. Time and metric: not run at full size; parameters, memory and work of
a step are in `docs/results/paper_scale.md`.

Keys that are not set here have the paper's values by default. Sources are those of --mode show, [vrag] apart from [code]:
yeyutaihan/vrag (collector: collect_mc) and christinaz21/mem-consistency-oasis, whose settings the paper gives.

The data are 20,000 walks of 1200 steps [paper], which MineRL records with VRAG's random policy (`data_prep.collect_minerl`);
any other format of `data_prep.convert` takes their place with another --format. The model is conditioned on actions alone
[paper]. An action is the 25-vector of Oasis, because its weights need it: VRAG's four numbers (forward, back, jump, turn) are
four of its entries with the same values, and the other 21 stay zero.

The base is Diffusion Forcing. It is trained first, then frozen while a memory learns on it [code]: set
--config.train.init_from to the work directory of a run of the variant df, or to the file of Open-Oasis
(oasis500m.safetensors, which has the same shapes and a window of 32). The paper does not say how long the base was trained;
VRAG trains 3 epochs, with a warm-up of 1000 steps.
"""

from ml_collections import ConfigDict

from experiments import base

# The states of these memories at 8 windows of one clip take gigabytes (10 for Mamba2, 5 for TTT, 0.1 for the LSTM), and their
# gradients as much again, so the three clips of a device run one after another.
LARGE_STATES = ("mamba2", "ttt")

# From recordings to latents at once: the raw frames would take 16 TB.
ENCODE = (
    "python -m data_prep.encode_latents --format vrag --dst {path} --size 640x360 "
    "--tokenizer oasis_vae --weights weights/vit-l-20.safetensors"
)
# 60 walks in patterns such as rotation in place [paper]; 60 given frames of 100 are read off its Figure 6.
PATTERNS = "--src recordings/rotate --split test --pattern rotate --test-frames 100 --context 60"

SETTINGS = {
    "seed": 42,  # [vrag]
    "data.path": "datasets/minecraft",
    "data.make": f"{ENCODE} --src recordings/minecraft",
    "data.clip": 100,  # frames of a sample [paper]; its first action is zeroed [code]
    "data.threads": 8,  # [ours]
    "tokenizer.name": "oasis_vae",  # ViT-VAE of Oasis, per frame [paper]
    "model.latent": (18, 32, 16),  # [oasis] for frames of 640 x 360 [vrag]
    "model.action_dim": 25,  # [oasis]; [code] has 4 of them
    "memory.hidden": 1024,  # LSTM, one layer without dropout [paper]
    "memory.heads": 16,  # TTT [paper], ARL2 [ours]
    "memory.prefetch_segment": 100,  # the whole clip, layer by layer [paper] A.3: large states are held once
    "train.batch": 24,  # [paper]: 3 on each of 8 GPUs
    "train.steps": 5000,  # for each memory [paper]
    "train.windows": 8,  # of a clip [code]
    "train.window_batch": 4,  # [code]
    "checkpoint.every": 1000,  # [vrag]
    "evaluate.path": "datasets/minecraft_rotate",
    "evaluate.make": f"{ENCODE} {PATTERNS}",
    "evaluate.fps": 20,
}

of_variant = base.experiment("minecraft", SETTINGS)


def get_config(variant: str | None = None) -> ConfigDict:
    """Any variant of `experiments.base.set_variant`."""
    config = of_variant(variant)
    if config.memory.kind != "none":
        config.train.freeze = "base"  # [code]
    if config.memory.kind in LARGE_STATES:
        config.train.accumulate = 3  # [ours]
    return config
