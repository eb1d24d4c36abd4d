"""Every configuration key once, with what it is and where its value comes from; other experiments override.

Sources: [paper] arXiv 2511.12940. [thesis] arXiv 2607.17560, chapters 9 and 10. [code] public code of the same authors
(yeyutaihan/vrag, christinaz21/mem-consistency-oasis), read for facts. [ours] a choice of this project. The values are what
the paper's two data sets have in common; where they differ, Minecraft's, which are the smaller ones.

Types, ranges and choices are declared in `rad_jax.config.sections`; ``--mode show`` prints them resolved.
"""

import re

from ml_collections import ConfigDict

from rad_jax.config import NAMES, ConfigError, window_starts
from rad_jax.config.keys import did_you_mean, nearest

DEFAULT_VARIANT = "lstm-f"


def get_config(variant: str | None = None) -> ConfigDict:
    """The defaults in one of the variants of `set_variant`."""
    config = defaults()
    config.name = "base"
    return set_variant(config, variant)


def defaults() -> ConfigDict:
    """All keys, with no variant applied yet."""
    config = ConfigDict()
    config.name = "base:lstm-f"  # name of the run, shown in reports
    config.seed = 0  # of parameters, noise and data order

    config.data = data = ConfigDict()
    data.path = "datasets/maze_15x15"  # directory of the training episodes
    data.make = ""  # shell command that makes them and their tokenizer, shown when missing; {path}: data.path
    data.auto_make = False  # run that command when they are missing
    data.split = "train"  # name of the split
    data.condition = "action"  # [paper] actions only; [code] gives the maze model the pose too: "action+pose"
    data.heading_harmonics = 1  # with pose: cos, sin of 1..n times the heading; [code] has 1
    data.clip = 100  # T, frames of a training clip; [paper] Minecraft 100, Maze 1001
    data.threads = 2  # threads that read and decode; [ours]
    data.buffer = 8  # batches read ahead; [ours]

    config.tokenizer = tokenizer = ConfigDict()
    tokenizer.name = "patch_pca"  # [ours]; [paper] Stable Diffusion VAE (Maze), Oasis ViT-VAE (Minecraft)
    tokenizer.path = ""  # its file; empty: tokenizer.npz in data.path
    tokenizer.preview = ""  # weights of TAESD, which then decodes sample and rollout videos of sd_vae latents

    config.model = model = ConfigDict()
    model.latent = None  # rows, columns, channels of a latent frame; None: from the data and the tokenizer
    model.action_dim = None  # size of a frame's condition; None: from the data
    model.patch = 2  # latent rows and columns of one token; [code]
    model.width = 1024  # D, features of a token; [code]; the only width that fits the paper's counts
    model.depth = 16  # blocks; [code] Minecraft 16, Maze 12
    model.heads = 16  # [code]
    model.mlp_ratio = 4.0  # hidden width of an MLP over D; [code]
    model.window = 20  # W, frames that attention sees; [paper]
    model.context_level = 14  # level that clean frames are labelled with, everywhere; [code]
    model.dtype = "bfloat16"  # of matrix products, parameters and states stay float32; [code]
    model.remat = True  # recompute activations in the backward pass; [code]

    config.memory = memory = ConfigDict()
    memory.kind = "lstm"  # set by the variant
    memory.stride = 1  # s, frames by which the window slides; set by the variant
    memory.window = "shared"  # frames of a window read one state ([code]), or run on; set by the variant
    memory.action = None  # action feature into the memory; None: the LSTM's alone [code]; Table 4 compares
    memory.action_width = 128  # its width; [code], and the best fit of the paper's parameter counts
    memory.gate_init = 0.0  # start of the output gate; 0 leaves a pretrained model as it is; [code]
    memory.bptt = "full"  # gradient through prefetch; [code]
    memory.bptt_frames = 100  # with "truncated": frames between two cuts; [ours]
    memory.frames = "clean"  # what prefetch sees; [paper] Table 5: better than "noised"
    memory.noised_levels = 100  # with "noised": level drawn from 0..99; [code]
    memory.prefetch_segment = 20  # frames of one prefetch step: speed against space, same numbers; [ours]
    memory.mixer_segment = 16  # mamba2, ttt: frames of one step of their scans: speed against space; [ours]
    memory.hidden = 0  # lstm: units; 0: model.width; [paper] 1024
    memory.gates = "standard"  # lstm: [paper]; "slots" learns far sooner: see model/mixers/lstm.py; [ours]
    memory.heads = 0  # ttt, arl2: 0: model.heads; [paper] 16
    memory.state = 64  # mamba2: columns of a head's state; [paper]
    memory.expand = 2  # mamba2: inner width over model.width; [paper]
    memory.head_width = 64  # mamba2: rows of a head's state; its authors' default
    memory.conv = 4  # mamba2: frames the causal convolution sees; [paper]
    memory.mini_batch = 1  # ttt: frames of one inner step; [paper]
    memory.inner_rate = 1.0  # ttt: of the inner steps, before its learned factor; its authors' default

    config.diffusion = diffusion = ConfigDict()
    diffusion.schedule = "sigmoid"  # [code]; the paper does not say
    diffusion.shift = 1.0  # factor on the amplitude ratio of signal to noise; 1: the plain schedule
    diffusion.levels = 1000  # [code]
    diffusion.predict = "v"  # [code]; the paper writes the loss for eps
    diffusion.weighting = "fused_snr"  # [code]
    diffusion.snr_clip = 5.0  # [code]
    diffusion.fused_decay = 0.96  # per frame; [code]

    config.train = train = ConfigDict()
    train.steps = 5000  # [paper] Minecraft, per memory
    train.batch = 24  # clips of one step over all devices; [paper] Minecraft 24, Maze 64
    train.windows = 8  # n, windows drawn from a clip; [code] Minecraft 8, Maze 64
    train.first_start = 0  # earliest frame at which a window may start; [ours]
    train.window_batch = 0  # windows of a clip that run together, 0: all; only memory
    train.accumulate = 1  # parts of a batch; only memory
    train.freeze = "none"  # "base": only the memory learns, on a pretrained base; [code] Minecraft
    train.ema = 0.999  # decay per step of averaged parameters; the paper does not say; [ours]
    train.log_every = 50  # steps
    train.sample_every = 1000  # steps between sample videos
    train.init_from = ""  # work directory of a run, its average; or a .safetensors of Open-Oasis's or ours

    config.optimizer = optimizer = ConfigDict()
    optimizer.learning_rate = 8e-5  # [code]; missing in the paper
    optimizer.b1 = 0.9  # [code]
    optimizer.b2 = 0.99  # [code]
    optimizer.weight_decay = 2e-3  # [code]
    optimizer.clip = 1.0  # global norm of the gradient; [code]
    optimizer.warmup = 100  # steps; [code]
    optimizer.decay = "constant"  # [code]
    optimizer.decay_start = 0.5  # with a decay: fraction of train.steps at which it begins; [ours]

    config.checkpoint = checkpoint = ConfigDict()
    checkpoint.every = 500  # steps; [ours]
    checkpoint.keep = 2  # newest ones kept; [ours]
    checkpoint.keep_every = 0  # steps whose multiples are kept for ever

    config.mesh = mesh = ConfigDict()
    mesh.data = -1  # devices that split the batch; -1: all that mesh.fsdp leaves
    mesh.fsdp = 1  # devices that split batch and parameters

    config.sample = sample = ConfigDict()
    sample.steps = 50  # DDIM steps of a frame; [paper]

    config.evaluate = evaluate = ConfigDict()
    evaluate.path = "datasets/maze_15x15_return"  # directory of the evaluation episodes
    evaluate.make = ""  # shell command that makes them; {path}: evaluate.path
    evaluate.auto_make = False  # run it when they are missing
    evaluate.split = "test"  # name of the split
    evaluate.more = ""  # further sets for --mode compare: "NAME=DIRECTORY,NAME=DIRECTORY"
    evaluate.more_make = ""  # shell command that makes one of them; {path}: its directory, {name}: its name
    evaluate.variants = "all"  # what --mode compare compares; "all": df and every memory, -c and -f
    evaluate.videos = 0  # how many; 0: all
    evaluate.batch = 8  # generated together: speed against space
    evaluate.lpips = ""  # weights of LPIPS, a file that data_prep.convert_lpips wrote; empty: no LPIPS
    evaluate.side_by_side = 8  # shown in the report
    evaluate.figure3 = True  # --mode score measures which frames a predicted frame sees
    evaluate.fps = 4  # of the report's videos; the maze runs at 4 frames per second
    return config


def set_variant(config: ConfigDict, variant: str | None) -> ConfigDict:
    """Changes ``config`` to a variant (None: lstm-f) and adds the variant to its name.

    ``df``            Diffusion Forcing: no memory.
    ``<memory>-f``    frame-wise: the window slides by one frame, its frames share the state before it.
    ``<memory>-c``    chunk-wise: it slides by its whole length, the memory runs on through it.
    ``<memory>-sN``   strided: it slides by N frames, the memory runs on through it.

    ``<memory>`` is any name of `rad_jax.model.mixers`. A stride leaves fewer places for windows: `train.windows` is lowered to
    them, and lengths that must be multiples of the stride are rounded down to one.
    """
    variant = variant or DEFAULT_VARIANT
    memory, train = config.memory, config.train
    memory.kind, stride, memory.window = parse_variant(variant, config.model.window)
    memory.stride = stride
    memory.prefetch_segment = round_down(memory.prefetch_segment, stride)
    memory.bptt_frames = round_down(memory.bptt_frames, memory.prefetch_segment)
    starts = len(window_starts(config.data.clip, config.model.window, stride, train.first_start))
    train.window_batch = min(train.window_batch, starts)
    train.windows = round_down(min(train.windows, starts), max(train.window_batch, 1))
    config.name = f"{config.name}:{variant}"
    return config


def parse_variant(variant: str, window: int) -> tuple[str, int, str]:
    """``memory.kind``, ``memory.stride`` and ``memory.window`` of a variant."""
    if variant == "df":
        return "none", 1, "shared"
    kind, _, mode = variant.rpartition("-")
    if kind in NAMES and kind != "none":
        if mode == "f":
            return kind, 1, "shared"
        if mode == "c":
            return kind, window, "rollout"
        if re.fullmatch(r"s[1-9]\d{0,5}", mode):
            return kind, int(mode[1:]), "rollout"
    memories = ", ".join(name for name in NAMES if name != "none")
    raise ConfigError(
        f"variant {variant!r}: expected df or <memory>-f, <memory>-c, <memory>-sN (stride N) with a memory of {memories}"
        + did_you_mean(nearest(variant, variants()))
    )


def variants(stride: int = 10) -> list[str]:
    """The variants of a comparison: no memory, and every memory frame-wise, chunk-wise and with a stride."""
    memories = [name for name in NAMES if name != "none"]
    return ["df", *(f"{name}-{mode}" for name in memories for mode in ("f", "c", f"s{stride}"))]


def round_down(number: int, unit: int) -> int:
    """The largest multiple of ``unit`` up to ``number``, at least ``unit`` itself."""
    return max(unit, number // unit * unit)
