"""The keys of the model: type, range, default, meaning and source; and which combinations cannot be."""

import dataclasses
from typing import Literal

import ml_dtypes  # noqa: F401 (teaches NumPy the name bfloat16)
import numpy as np

from rad_jax.config.keys import Section, key
from rad_jax.config.memories import check_rotary_heads, check_settings
from rad_jax.config.memory import MemoryConfig
from rad_jax.config.messages import ConfigError, require, show_value


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The latent video transformer."""

    latent: tuple[int, int, int] | None = key(
        None, "rows, columns and channels of a latent frame; none: from the data and the tokenizer", low=1
    )
    action_dim: int | None = key(None, "size of the condition of a frame; none: from the data", low=1)
    pose: tuple[int, int] | None = key(
        None,
        "the pose at the end of that condition: position columns, and multiples of the heading, each a cosine and a sine; "
        "(0,0): there is none; none: from the data",
        low=0,
    )
    plane: tuple[int, int] | None = key(
        None,
        "the positions in whose plane the agent turns, columns counted from 1: heading 0 looks along the first one and has "
        "the second to its left; this one negative: headings grow to the right; none: from the data, else (1,2)",
    )
    patch: int = key(2, "rows and columns of latents that make one token", low=1, source="code, oasis")
    width: int = key(
        1024, "features of a token (D)", low=4, source="code, oasis; alone fits the paper's parameter counts"
    )
    depth: int = key(16, "blocks", low=1, source="oasis: 16, for Minecraft; code: 12 for Maze")
    heads: int = key(16, "attention heads", low=1, source="code, oasis")
    mlp_ratio: float = key(
        4.0, "hidden width of an MLP over the width of the model", above=0, high=100, source="code, oasis"
    )
    window: int = key(20, "frames that attention sees (W)", low=1, source="paper")
    context_level: int = key(
        14, "level given to clean frames, in prefetch and in generation", low=0, source="code, oasis"
    )
    dtype: Literal["bfloat16", "float32", "float64"] = key(
        "bfloat16", "type of the matrix products; parameters and state are at least float32", source="code"
    )
    remat: bool = key(True, "recompute activations in the backward pass to save memory", source="code")
    memory: MemoryConfig = MemoryConfig()

    def check(self):
        check_rotary_heads("model.heads", self.heads, self.width)
        require(
            int(self.mlp_ratio * self.width) >= 1,
            f"model.mlp_ratio={self.mlp_ratio}: leaves no hidden feature at model.width={self.width}",
        )
        stride = self.memory.stride
        require(stride <= self.window, f"memory.stride={stride}: expected 1 .. {self.window} (model.window)")
        if self.pose is not None and self.action_dim is not None:
            columns = self.pose[0] + 2 * self.pose[1]
            require(
                columns <= self.action_dim,
                f"model.pose={show_value(self.pose)}: has {columns} columns, model.action_dim={self.action_dim} has fewer",
            )
        if self.plane is not None:
            first, second = self.plane
            require(
                first > 0 and abs(second) not in (0, first),
                f"model.plane={show_value(self.plane)}: expected two positions, counted from 1; "
                "the second alone may be negative",
            )
            require(
                self.pose is None or max(first, abs(second)) <= self.pose[0],
                f"model.plane={show_value(self.plane)}: expected two of the positions, of which there are "
                f"{self.pose and self.pose[0]} (model.pose)",
            )
        if self.latent is not None:
            rows, columns, _ = self.latent
            require(
                rows % self.patch == columns % self.patch == 0,
                f"model.patch={self.patch}: does not divide latents of {rows} x {columns} (model.latent)",
            )
        check_settings(self)

    @property
    def heading_at(self) -> tuple[int, int] | None:
        """First column of the position and of the heading (cosine, then sine) in a frame's condition; None without a pose."""
        positions, harmonics = self.pose or (0, 0)
        if not harmonics:
            return None
        return self.action_dim - positions - 2 * harmonics, self.action_dim - 2 * harmonics

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of a frame."""
        if self.latent is None:
            raise ConfigError(
                "model.latent=none: a model needs its rows, columns and channels, such as (8,8,16)"
            )
        return self.latent[0] // self.patch, self.latent[1] // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of a frame (N)."""
        return self.grid[0] * self.grid[1]

    @property
    def compute_dtype(self) -> np.dtype:
        """Type of the operands of matrix products."""
        return np.dtype(self.dtype)

    @property
    def state_dtype(self) -> np.dtype:
        """Type of parameters, statistics, gates and memory states: at least float32."""
        return np.promote_types(self.compute_dtype, np.float32)

    @property
    def types(self) -> dict[str, np.dtype]:
        """Both, as layers of Flax are given them."""
        return {"dtype": self.compute_dtype, "param_dtype": self.state_dtype}
