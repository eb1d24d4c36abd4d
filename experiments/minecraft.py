"""The paper's Minecraft with every hyperparameter that is known (Tables 2 and 3).

    python -m rad_jax.main --config experiments/minecraft.py:lstm-f
    python -m rad_jax.main --config experiments/minecraft.py:lstm-f --mode evaluate
    python -m rad_jax.main --config experiments/minecraft.py:mamba2-f --mode plan     # what a step needs; allocates nothing

Hardware: batch and steps are those of the paper's 8 GPUs. Time and metric: not run at full size; parameters, memory and work of
a step are in `docs/results/paper_scale.md`.

Sources: [paper] arXiv 2511.12940, Table A.1 and section 5. [thesis] arXiv 2607.17560, chapter 10. [vrag] yeyutaihan/vrag and
its collector collect_mc. [code] christinaz21/mem-consistency-oasis, whose settings are those that the paper gives. [oasis]
etched-ai/open-oasis. [ours] what none of them says.

The data are 20,000 walks of 1200 steps [paper], which MineRL records with VRAG's random policy (`data_prep.collect_minerl`);
any other format of `data_prep.convert` takes their place with another --format. The model is conditioned on actions alone
[paper]. An action is the 25-vector of Oasis, because its weights need it: VRAG's four numbers (forward, back, jump, turn) are
four of its entries with the same values, and the other 21 stay zero.

The base is Diffusion Forcing. It is trained first, then frozen while a memory learns on it [code]: set
--config.train.init_from to the work directory of a run of the variant df, or to the file of Open-Oasis
(oasis500m.safetensors, which has the same shapes and a window of 32). The paper does not say how long the base was trained;
VRAG trains 3 epochs.
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


def get_config(variant: str | None = None) -> ConfigDict:
    """Any variant of `experiments.base.set_variant`."""
    config = base.defaults()
    config.name = "minecraft"
    config.seed = 42  # [vrag]

    data = config.data
    data.path = "datasets/minecraft"
    data.make = f"{ENCODE} --src recordings/minecraft"
    data.condition = "action"  # [paper]; [code]
    data.clip = 100  # frames of a sample [paper]; its first action is zeroed [code]
    data.threads = 8  # [ours]

    config.tokenizer.name = "oasis_vae"  # ViT-VAE of Oasis, per frame [paper]

    model = config.model
    model.latent = (18, 32, 16)  # [oasis] for frames of 640 x 360 [vrag]
    model.action_dim = 25  # [oasis]; [code] has 4 of them
    model.patch = 2  # [oasis]
    model.width = 1024  # [oasis]; the paper's counts of parameters fit no other
    model.depth = 16  # [oasis]
    model.heads = 16  # [oasis]
    model.mlp_ratio = 4.0  # [oasis]
    model.window = 20  # [paper]
    model.context_level = 14  # [oasis]
    model.dtype = "bfloat16"  # mixed precision [vrag]
    model.remat = True  # [vrag]

    memory = config.memory
    memory.action_width = 128  # [code]
    memory.gate_init = 0.0  # the base is unchanged at first [code]
    memory.bptt = "full"  # [code]
    memory.frames = "clean"  # [paper], Table 5; [code] noises them a little (levels 0 to 99)
    memory.hidden = 1024  # LSTM, one layer without dropout [paper]
    memory.gates = "standard"  # [ours]
    memory.state, memory.conv, memory.expand = 64, 4, 2  # Mamba2 [paper]
    memory.head_width = 64  # Mamba2: its authors' default
    memory.heads, memory.mini_batch = 16, 1  # TTT [paper]; heads are ARL2's too [ours]
    memory.inner_rate = 1.0  # TTT: its authors' default
    memory.prefetch_segment = 100  # the whole clip, layer by layer [paper] A.3: large states are held once

    diffusion = config.diffusion
    diffusion.schedule, diffusion.levels = "sigmoid", 1000  # [vrag], [oasis], [code]
    diffusion.predict = "v"  # [vrag], [oasis], [code]; the paper writes the loss for eps
    diffusion.weighting, diffusion.snr_clip, diffusion.fused_decay = "fused_snr", 5.0, 0.96  # [vrag], [code]

    train = config.train
    train.batch = 24  # [paper]: 3 on each of 8 GPUs
    train.steps = 5000  # for each memory [paper]
    train.windows = 8  # of a clip [code]
    train.window_batch = 4  # [code]
    train.ema = 0.999  # [ours]

    optimizer = config.optimizer
    optimizer.learning_rate = 8e-5  # [vrag], [code]
    optimizer.b1, optimizer.b2, optimizer.weight_decay = 0.9, 0.99, 2e-3  # AdamW [vrag], [code]
    optimizer.clip = 1.0  # [vrag], [code]
    optimizer.warmup = 100  # [code]; for the base [vrag] has 1000
    optimizer.decay = "constant"  # [vrag], [code]

    config.checkpoint.every = 1000  # [vrag]
    config.sample.steps = 50  # DDIM [paper]

    evaluate = config.evaluate
    evaluate.path = "datasets/minecraft_rotate"
    # 60 walks in patterns such as rotation in place [paper]; 60 given frames of 100 are read off its Figure 6.
    patterns = "--src recordings/rotate --split test --pattern rotate --test-frames 100 --context 60"
    evaluate.make = f"{ENCODE} {patterns}"
    evaluate.fps = 20
    config = base.set_variant(config, variant)
    if config.memory.kind != "none":
        train.freeze = "base"  # [code]
    if config.memory.kind in LARGE_STATES:
        train.accumulate = 3  # [ours]
    return config
