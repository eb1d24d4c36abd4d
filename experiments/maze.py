"""The paper's Memory Maze 15x15 with every hyperparameter that is known (Tables 1, 4 and 5).

    python -m rad_jax.main --config experiments/maze.py:lstm-f

Hardware, time and metric: not run at full size.

Keys that are not set here have the paper's values by default. Sources are those of --mode show, [vrag] apart from [code]:
yeyutaihan/vrag and christinaz21/mem-consistency-oasis, whose settings are those that the paper gives.

By default the episodes come from the ray-cast maze of `data_prep`, which has the actions, camera and kinematics of the real
one, and the tokenizer is the patch-PCA, which needs no weights and whose 8x8x16 latents give the same 16 tokens as the paper's
8x8x4. With the official offline data (29,000 trajectories to train on), or those of `data_prep.make_memory_maze`, and the
paper's VAE of Stable Diffusion:

    python -m data_prep.encode_latents --format memory_maze --src TRAJECTORIES --dst datasets/memory_maze \
        --tokenizer sd_vae --weights WEIGHTS.safetensors
    ... --config.data.path=datasets/memory_maze --config.tokenizer.name=sd_vae

The public code gives the model the pose, the paper's text does not; for the latter: --config.data.condition=action
"""

from experiments import base

EPISODES = 30_000  # about [paper]
BATCH = 64  # [paper]
MAZE = "python -m data_prep.make_maze --out {path} --size 15"  # [thesis]

SETTINGS = {
    "seed": 42,  # [vrag]
    "data.path": "datasets/maze_15x15",
    "data.make": f"{MAZE} --protocol train --episodes {EPISODES} && {base.FIT}",
    "data.condition": "action+pose",  # 6 actions, place and direction [code]
    "data.clip": 1001,  # frames of a sample, the whole episode [paper]
    "data.threads": 8,  # [ours]
    "tokenizer.name": "patch_pca",  # [ours]; [paper] Stable Diffusion's VAE
    "model.depth": 12,  # [code]
    "memory.hidden": 1024,  # LSTM, one layer without dropout [paper]
    "memory.heads": 16,  # TTT [paper], ARL2 [ours]
    "train.batch": BATCH,
    "train.steps": 3 * EPISODES // BATCH,  # three epochs, from scratch [paper]
    "train.windows": 64,  # of a clip [code]
    "train.window_batch": 8,  # [code]
    "train.ema": 0.99,  # [ours]: a run of 1,400 steps is short
    "evaluate.path": "datasets/maze_15x15_return",
    "evaluate.make": f"{MAZE} --protocol return --episodes 200",  # out and back, 60 % context [paper]
}

get_config = base.experiment("maze", SETTINGS)
