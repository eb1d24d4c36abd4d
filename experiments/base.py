"""The defaults in every variant, and the variants themselves, which all experiments share.

    python -m rad_jax.main --config experiments/base.py:lstm-f --mode show

prints every key with its default, meaning and source; `rad_jax.config` declares them. Hardware, time and metric: not run. The
defaults are the paper's Minecraft in all but the data, which are a maze's.
"""

import re

from ml_collections import ConfigDict

from rad_jax.config import NAMES, Config, ConfigError, window_starts
from rad_jax.config.messages import did_you_mean, nearest

DEFAULT_VARIANT = "lstm-f"


def get_config(variant: str | None = None) -> ConfigDict:
    """Any variant of `set_variant`."""
    config = defaults()
    config.name = "base"
    return set_variant(config, variant)


def defaults() -> ConfigDict:
    """All keys with the defaults that `rad_jax.config` declares, and no variant applied yet."""
    return ConfigDict(Config().to_dict())


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
