"""The defaults in every variant, and the variants themselves, which all experiments share.

    python -m rad_jax.main --config experiments/base.py:lstm-f --mode show

prints every key with its default, meaning and source; `rad_jax.config` declares them. Hardware, time and metric: not run. The
defaults are the paper's Minecraft in all but the data, which are a maze's.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from rad_jax.config import NAMES, Config, ConfigError, always_needs_pose, modes, window_starts
from rad_jax.config.messages import did_you_mean, nearest

MEMORIES = tuple(name for name in NAMES if name != "none")
VARIANT = re.compile(rf"df|({'|'.join(MEMORIES)})-(f|c|s([1-9]\d{{0,5}}))")
FIT = "python -m data_prep.fit_tokenizer --data {path}"

# Sizes that experiments share.
TWO_CORES = {
    "data.auto_make": True,
    "model.depth": 2,
    "model.mlp_ratio": 2.0,
    "model.context_level": 1,
    "model.dtype": "float32",
    "memory.resample_levels": (60, 82),
    "diffusion.schedule": "cosine",
    "diffusion.levels": 100,
    "train.windows": 4,
    "evaluate.auto_make": True,
}
SLOTS = {"memory.gates": "slots", "memory.gate_init": 0.5}  # where no pretrained base is to be protected
MAZES_ON_TWO_CORES = {
    **TWO_CORES,
    **SLOTS,
    "data.condition": "action+pose",
    "model.heads": 4,
    "memory.action_width": 32,
    "memory.resample_levels": (30, 60),
    "diffusion.shift": 0.4,
    "diffusion.weighting": "uniform",
    "optimizer.weight_decay": 0.01,
    "optimizer.decay": "linear",
}
# Views of 32 pixels in some 20 to 40 minutes: one token per patch, so that a view that has turned is found column by column.
IN_MINUTES = {
    "model.width": 96,
    "model.window": 4,
    "model.patch": 1,
    "model.remat": False,
    "memory.unseen": 0.1,
    "train.ema": 0.99,
    "optimizer.name": "muon",
    "optimizer.learning_rate": 6e-3,
    "sample.steps": 3,
}
ONE_GPU = {
    **SLOTS,
    "data.threads": 8,
    "model.width": 384,
    "model.depth": 8,
    "model.heads": 6,
    "train.steps": 4000,
    "train.batch": 16,
    "train.windows": 16,
    "optimizer.learning_rate": 3e-4,
    "optimizer.decay": "cosine",
    "sample.steps": 20,
}


def experiment(name: str, settings: Mapping[str, Any]) -> Callable[..., ConfigDict]:
    """The ``get_config`` of an experiment: the declared defaults, but for ``settings`` by dotted key, in any variant."""

    def get_config(variant: str | None = None) -> ConfigDict:
        config = ConfigDict(Config().to_dict())
        config.update_from_flattened_dict({"name": name, **settings})
        return set_variant(config, variant)

    return get_config


def set_variant(config: ConfigDict, variant: str | None) -> ConfigDict:
    """Changes ``config`` to a variant (None: lstm-f) and adds the variant to its name.

    ``df``            Diffusion Forcing: no memory.
    ``<memory>-f``    frame-wise: the window slides by one frame, its frames share the state before it.
    ``<memory>-c``    chunk-wise: it slides by its whole length, the memory runs on through it.
    ``<memory>-sN``   strided: it slides by N frames, the memory runs on through it.

    ``<memory>`` is any name of `rad_jax.config.memories`. A larger stride leaves fewer windows in a clip: `train.windows` is
    lowered to them, and lengths that must be multiples of the stride are rounded down to one.

    Raises:
      ConfigError: there is no such variant; names the nearest.
    """
    variant = variant or "lstm-f"
    if not (match := VARIANT.fullmatch(variant)):
        raise ConfigError(
            f"variant {variant!r}: expected df or <memory>-f, <memory>-c, <memory>-sN (stride N) with a memory of "
            + ", ".join(MEMORIES)
            + did_you_mean(nearest(variant, variants()))
        )
    memory, train = config.memory, config.train
    kind, mode, number = match.groups()
    stride = config.model.window if mode == "c" else int(number or 1)
    memory.kind, memory.stride = kind or "none", stride
    memory.window = "shared" if mode in (None, "f") else "rollout"
    memory.prefetch_segment = round_down(memory.prefetch_segment, stride)
    memory.bptt_frames = round_down(memory.bptt_frames, memory.prefetch_segment)
    starts = len(window_starts(config.data.clip, config.model.window, stride, train.first_start))
    train.window_batch = min(train.window_batch, starts)
    train.windows = round_down(min(train.windows, starts), max(train.window_batch, 1))
    config.name = f"{config.name}:{variant}"
    return config


def variants(stride: int = 10, posed: bool = True) -> list[str]:
    """The names of all variants, with one stride: no memory, and every memory in the modes that it has.

    Without ``posed``, those of models that are not given the pose.
    """
    names = {"f": "f", "c": "c", "s": f"s{stride}"}
    memories = [name for name in MEMORIES if posed or not always_needs_pose(name)]
    return ["df", *(f"{name}-{names[mode]}" for name in memories for mode in modes(name))]


def round_down(number: int, unit: int) -> int:
    """The largest multiple of ``unit`` up to ``number``, at least ``unit`` itself."""
    return max(unit, number // unit * unit)


get_config = experiment("base", {})
