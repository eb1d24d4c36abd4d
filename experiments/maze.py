"""The paper's Memory Maze 15x15 with every hyperparameter that is known (Tables 1, 4 and 5).

    python -m rad_jax.main --config experiments/maze.py:lstm-f
    python -m rad_jax.main --config experiments/maze.py:lstm-f --mode evaluate

Hardware, time and metric: not run at full size.

Sources: [paper] arXiv 2511.12940, Table A.1 and section 5. [thesis] arXiv 2607.17560, chapter 10. [vrag] yeyutaihan/vrag.
[code] christinaz21/mem-consistency-oasis, whose settings are those that the paper gives. [ours] what none of them says.

By default the episodes come from the ray-cast maze of `data_prep`, which has the actions, camera and kinematics of the real
one, and the tokenizer is the patch-PCA, which needs no weights and whose 8x8x16 latents give the same 16 tokens as the paper's
8x8x4. With the official offline data (29,000 trajectories to train on), or those of `data_prep.make_memory_maze`, and the
paper's VAE of Stable Diffusion:

    python -m data_prep.encode_latents --format memory_maze --src TRAJECTORIES --dst datasets/memory_maze \
        --tokenizer sd_vae --weights WEIGHTS.safetensors
    ... --config.data.path=datasets/memory_maze --config.tokenizer.name=sd_vae

The public code gives the model the pose, the paper's text does not; for the latter: --config.data.condition=action
"""

from ml_collections import ConfigDict

from experiments import base

EPISODES = 30_000  # about [paper]
MAZE = "python -m data_prep.make_maze --out {path} --size 15"  # [thesis]


def get_config(variant: str | None = None) -> ConfigDict:
    """Any variant of `experiments.base.set_variant`."""
    config = base.defaults()
    config.name = "maze"
    config.seed = 42  # [vrag]

    data = config.data
    data.path = "datasets/maze_15x15"
    data.make = (
        f"{MAZE} --protocol train --episodes {EPISODES} && python -m data_prep.fit_tokenizer --data {{path}}"
    )
    data.condition = "action+pose"  # 6 actions, place and direction [code]
    data.heading_harmonics = 1  # [code]
    data.clip = 1001  # frames of a sample, the whole episode [paper]
    data.threads = 8  # [ours]

    config.tokenizer.name = "patch_pca"  # [ours]; [paper] Stable Diffusion's VAE

    model = config.model
    model.patch = 2  # 16 tokens [code]
    model.width = 1024  # [code]
    model.depth = 12  # [code]
    model.heads = 16  # [code]
    model.mlp_ratio = 4.0  # [code]
    model.window = 20  # [paper]
    model.context_level = 14  # [code]
    model.dtype = "bfloat16"  # mixed precision [code]
    model.remat = True  # [vrag]

    memory = config.memory
    memory.action_width = 128  # [code]
    memory.gate_init = 0.0  # [code]
    memory.bptt = "full"  # [code]
    memory.frames = "clean"  # [paper], Table 5; [code] noises them a little (levels 0 to 99)
    memory.hidden = 1024  # LSTM, one layer without dropout [paper]
    memory.gates = "standard"  # [ours]
    memory.state, memory.conv, memory.expand = 64, 4, 2  # Mamba2 [paper]
    memory.head_width = 64  # Mamba2: its authors' default
    memory.heads, memory.mini_batch = 16, 1  # TTT [paper]; heads are ARL2's too [ours]
    memory.inner_rate = 1.0  # TTT: its authors' default

    diffusion = config.diffusion
    diffusion.schedule, diffusion.levels = "sigmoid", 1000  # [code]
    diffusion.predict = "v"  # [code]; the paper writes the loss for eps
    diffusion.weighting, diffusion.snr_clip, diffusion.fused_decay = "fused_snr", 5.0, 0.96  # [code]

    train = config.train
    train.batch = 64  # [paper]
    train.steps = 3 * EPISODES // train.batch  # three epochs, from scratch [paper]
    train.windows = 64  # of a clip [code]
    train.window_batch = 8  # [code]
    train.freeze = "none"  # [paper]
    train.ema = 0.99  # [ours]: a run of 1,400 steps is short

    optimizer = config.optimizer
    optimizer.learning_rate = 8e-5  # [code]
    optimizer.b1, optimizer.b2, optimizer.weight_decay = 0.9, 0.99, 2e-3  # AdamW [code]
    optimizer.clip = 1.0  # [code]
    optimizer.warmup = 100  # [code]
    optimizer.decay = "constant"  # [code]

    config.sample.steps = 50  # DDIM [paper]

    evaluate = config.evaluate
    evaluate.path = "datasets/maze_15x15_return"
    evaluate.make = (
        f"{MAZE} --protocol return --episodes 200"  # [paper]: 200 videos out and back, 60 % context
    )
    return base.set_variant(config, variant)
