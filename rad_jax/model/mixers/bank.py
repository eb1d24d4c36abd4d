"""A bank: keys and values of whole frames, of which every frame reads a few (VRAG 2505.21996, WorldMem 2504.12369).

A frame leaves a record on the tape: keys and values of its tokens. A token of a later frame attends to all tokens of the
records that `rad_jax.model.addressing` chooses for its frame, as `rad_jax.model.mixers.frame_reader` has it. A frame for which
nothing is chosen gets exactly 0.

A bank has no recurrence in time: records of all frames are made at once, layer by layer.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange

from rad_jax.axes import Array, Float
from rad_jax.model.addressing import Reading
from rad_jax.model.mixers.frame_reader import FrameReader, Shown, View


class Record(NamedTuple):
    """Rotated keys, and values, of frames, in the compute dtype."""

    keys: Float[Array, "*b n h e"]
    values: Float[Array, "*b n h e"]


class Bank(FrameReader):
    """See the module docstring. Its memory is a tape of `Record`, and slots; it has no state."""

    def initial_state(self, batch: int, tokens: int) -> tuple:
        """None: what a bank remembers is on its tape."""
        return ()

    def empty_tape(self, batch: int, tokens: int, records: int) -> Record:
        """Zeros for ``records`` frames; works on an unbound module."""
        shape = (batch, records, tokens, self.heads, self.config.width // self.heads)
        zeros = jnp.zeros(shape, self.config.compute_dtype)
        return Record(zeros, zeros)

    def record(self, x: Float[Array, "b t n f"]) -> Record:
        """What every frame leaves behind."""
        keys, values = (
            rearrange(z, "b t n (h e) -> b t n h e", h=self.heads) for z in self.keys_and_values(x)
        )
        return Record(self.rotate(keys), values)

    def attend(self, tape: Record, reading: Reading, x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        """Every frame reads what was chosen for it.

        Args:
          tape: records (b, s, ...).
          reading: (b, t, r).
        """

        def show(reading: Reading) -> Shown:
            take = jax.vmap(
                partial(jnp.take, axis=0, mode="clip")
            )  # there are no others: no check, and no fill
            records = jax.tree.map(lambda z: take(z, reading.record), tape)
            return Shown(*records, reading.valid)

        size = reading.record[:, 0].size * sum(z[0, 0].size * z.dtype.itemsize for z in tape)
        return self.read_frames(x, show, reading, size, View(reading.pose, reading.apart))


MIXER = Bank
