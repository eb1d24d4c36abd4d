"""Every memory of the paper's comparison on two CPU cores: mazes of 5 x 5 cells at 32 pixels.

    make compare

makes the data, trains every variant (df, each memory chunk-wise and frame-wise, a stride, and the ablations of Tables 4 and 5),
scores all of them on two protocols, loop (the second lap) and return (the way back), and writes the paper's tables, Figure 6
and a page.

Hardware: 2 CPU cores. Time: 13 min 41 s for the 80 steps of each variant, which show that everything works and teach no model
a maze. PSNR at 2,500 steps, loop / return: df 14.48 / 14.15 dB, mamba2-c, the best, 15.38 / 15.23; floor, the mean context
frame: 17.72 / 17.23 (`docs/results/maze_toy.md`). No variant beats the floors; for that train longer (not run):

    make compare RUNS=runs/maze_toy_long ARGS=--config.train.steps=20000

The model is conditioned on action and pose, as the paper's public maze code is. All settings are [ours].
"""

from experiments import base

MAZE = "python -m data_prep.make_maze --out {path} --size 5 --pixels 32 --supersample 2"
EVALUATION = "--episodes 32 --min-frames 100 --max-frames 160"
WINDOW = 8

SETTINGS = {
    **base.MAZES_ON_TWO_CORES,
    "data.path": "datasets/maze_toy",
    "data.make": f"{MAZE} --protocol train --episodes 1024 --frames 96 && {base.FIT} --decoder-steps 200",
    "data.heading_harmonics": 2,
    "data.clip": 64,
    "model.width": 64,
    "model.window": WINDOW,
    "memory.head_width": 32,
    "memory.state": 32,
    "memory.prefetch_segment": 64,
    "train.steps": 80,
    "train.batch": 8,
    "train.first_start": 16,  # before that there is little to remember
    "train.ema": 0.98,
    "train.log_every": 20,
    "train.sample_every": 0,
    "optimizer.learning_rate": 3e-3,
    "optimizer.warmup": 30,
    "sample.steps": 4,
    "evaluate.path": "datasets/maze_toy_loop",
    "evaluate.make": f"{MAZE} --protocol loop {EVALUATION}",
    "evaluate.more": "return=datasets/maze_toy_return",
    "evaluate.more_make": f"{MAZE} --protocol return {EVALUATION}",
    "evaluate.variants": f"all,lstm-s{WINDOW // 2}",
    "evaluate.batch": 16,  # chunk-wise, contexts fall into 8 groups that cannot run together
    "evaluate.side_by_side": 3,
}

get_config = base.experiment("maze_toy", SETTINGS)
