"""Memories of sequences: by default every token has one, along time; with ``memory.block`` the tokens of a block share one.

Then the tokens of a block, rows x columns of the frame, are one sequence, in raster order frame after frame, and the memory
runs through it as it runs through the frames of a single token otherwise (Po et al. 2025, arXiv 2505.20171). So the state is
as many times smaller as a block has tokens. What is counted in frames elsewhere (a convolution, mini-batches, segments of a
scan) is then counted in tokens.

A token sees, through the memory, its own step, those of the tokens of its block before it in its own frame, and everything
older, in `read` as in `run`: that a frame is written and read in one pass is what makes the two agree. In `read` every frame
starts from the one state, so no frame sees another. Noise hides nothing here that it hides elsewhere: all tokens of a frame see
each other in spatial attention already.
"""

import math

import jax
import numpy as np
from einops import rearrange, repeat

from rad_jax.axes import Array, Float, PyTree
from rad_jax.model.mixers import Mixer, Walk


class SequenceMixer(Mixer):
    """A mixer that runs through sequences of tokens, each with a state of its own.

    A memory writes ``run_through`` and ``step_from`` for sequences side by side (b, t, n, f): ``walk`` and ``read`` of `Mixer`
    where a sequence is a token along time.
    """

    @property
    def shared_by(self) -> int:
        """Tokens of a frame that share a state."""
        return math.prod(self.config.memory.block or (1, 1))

    def sequences(self, tokens: int) -> int:
        """How many there are in frames of ``tokens`` tokens."""
        return tokens if self.shared_by == 1 else self.config.tokens // self.shared_by

    def walk(self, state: PyTree, x: Float[Array, "b t n f"]) -> Walk:
        if self.shared_by == 1:
            return self.run_through(state, x)
        state, y, states_at = self.run_through(state, self._line_up(x))
        return state, self._put_back(y), lambda ends: states_at(self.shared_by * ends)

    def read(self, state: PyTree, x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        if self.shared_by == 1:
            return self.step_from(state, x)
        copies = jax.tree.map(lambda s: repeat(s, "b ... -> (b t) ...", t=x.shape[1]), state)
        _, y, _ = self.walk(copies, rearrange(x, "b t n f -> (b t) 1 n f"))
        return rearrange(y, "(b t) 1 n d -> b t n d", b=len(x))

    def _line_up(self, x: Float[Array, "b t n f"]) -> Float[Array, "b s blocks f"]:
        """The sequences of blocks."""
        (i, j), (r, c) = self._grid, self.config.memory.block
        return rearrange(x, "b t (i r j c) f -> b (t r c) (i j) f", i=i, j=j, r=r, c=c)

    def _put_back(self, y: Float[Array, "b s blocks d"]) -> Float[Array, "b t n d"]:
        (i, j), (r, c) = self._grid, self.config.memory.block
        return rearrange(y, "b (t r c) (i j) d -> b t (i r j c) d", i=i, j=j, r=r, c=c)

    @property
    def _grid(self) -> np.ndarray:
        """Rows and columns of blocks."""
        return np.floor_divide(self.config.grid, self.config.memory.block)
