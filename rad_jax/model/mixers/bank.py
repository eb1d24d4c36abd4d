"""A bank: keys and values of whole frames, of which every frame reads a few (VRAG 2505.21996, WorldMem 2504.12369).

A frame leaves a record on the tape: keys and values of its tokens. A token of a later frame attends to all tokens of the
records that `rad_jax.model.addressing` chooses for its frame, in one softmax:

    y = o(softmax(q^T K / sqrt(e) - exp(a) |place - place'|^2 - exp(b) |pose - pose'|^2) V)
    q = R (x Wq + W' gelu(x Wx + p Wp + u Wu));   k = R (x Wk + u Wk')

p is where the record's frame was seen from, relative to the reader's, u a code of the token's place in the frame, and R the
rotation by that place, so that a turned or moved camera looks for its own view elsewhere in the record: a query is made for
every record. Values hold nothing of a pose. A frame for which nothing is chosen gets exactly 0.

The two distances, of the tokens' places in tokens and of the frames' poses, have a weight per head, and heads start at
different ones: some as a look-up of the same place in the nearest view, which is a good memory already, others without
preference. Without them a head has to find out first that places exist.

A bank has no recurrence in time: records of all frames are made at once, layer by layer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from rad_jax.arrays import linspace
from rad_jax.axes import Array, Float, Key
from rad_jax.model.addressing import Reading
from rad_jax.model.attention import scaled_logits, softmax, xavier
from rad_jax.model.mixers import Mixer
from rad_jax.model.rope import rotate, spatial_angles

NEAR, FAR = 2.0, 0.02  # first weights of the squared distances: of the first head and of the last one
PLACE_WAVES = (1, 2, 4)  # half waves across the frame
GATHERED_BYTES = 2**26  # of records, by frames that read at once


class Record(NamedTuple):
    """Rotated keys, and values, of frames, in the compute dtype."""

    keys: Float[Array, "*b n h e"]
    values: Float[Array, "*b n h e"]


class Bank(Mixer):
    """See the module docstring. Its memory is a tape of `Record`, and slots; it has no state."""

    def setup(self):
        config, types = self.config, {"kernel_init": xavier, **self.config.types}
        width, free = config.width, {"use_bias": False, **types}
        self.query, self.key, self.value = (nn.Dense(width, **free) for _ in range(3))
        self.key_place, self.query_place = nn.Dense(width, **free), nn.Dense(width, **types)
        self.query_token = nn.Dense(width, **free)
        if config.heading_at:
            self.query_pose = nn.Dense(width, **free)
        self.bend = self.param("bend", xavier, (width, width), config.state_dtype)
        self.out = nn.Dense(width, **free)
        self.near_place, self.near_pose = (
            self.param(name, first_log_weights, (self.heads,), config.state_dtype)
            for name in ("near_place", "near_pose")
        )

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
        keys = self.key(x) + self.key_place(self._places)
        keys, values = (rearrange(z, "b t n (h e) -> b t n h e", h=self.heads) for z in (keys, self.value(x)))
        return Record(rotate(keys, self._angles), values)

    def attend(self, tape: Record, reading: Reading, x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        """Every frame reads what was chosen for it.

        Args:
          tape: records (b, s, ...).
          reading: (b, t, r).
        """
        dtype = self.config.compute_dtype
        token = self.query_token(x) + self.query_place(self._places)
        pose = jnp.zeros((*reading.record.shape, 1), dtype)
        if self.config.heading_at:
            pose = self.query_pose(reading.pose.astype(dtype))
        inputs, bend = (self.query(x), token, pose, reading), self.bend.astype(dtype)

        far_pose = rearrange(jnp.exp(self.near_pose), "h -> h 1 1 1")
        far_place = rearrange(jnp.exp(self.near_place), "h -> h 1 1 1") * self._distances[:, None]

        # Again in the backward pass: what is gathered is ``r`` times what the frames themselves take.
        @jax.checkpoint
        def of_frame(frame: tuple[Array, Array, Array, Reading]) -> Array:
            query, token, pose, reading = frame
            bent = nn.gelu(token[:, None] + pose[:, :, None]) @ bend
            q = rearrange(query[:, None] + bent, "b r n (h e) -> b r n h e", h=self.heads)
            keys, values = jax.tree.map(
                lambda z: jax.vmap(jnp.take, (0, 0, None))(z, reading.record, 0), tape
            )
            logits = scaled_logits("brqhe,brkhe->bhqrk", rotate(q, self._angles), keys)
            logits = logits - far_place - far_pose * reading.apart[:, None, None, :, None]
            valid = reading.valid[:, None, None, :, None]
            flat = rearrange(
                jnp.where(valid, logits, jnp.finfo(logits.dtype).min), "b h q r k -> b h q (r k)"
            )
            weights = rearrange(softmax(flat), "b h q (r k) -> b h q r k", r=keys.shape[1])
            weights = jnp.where(valid, weights, 0).astype(values.dtype)
            return rearrange(jnp.einsum("bhqrk,brkhe->bqhe", weights, values), "b q h e -> b q (h e)")

        frames = jax.tree.map(lambda z: jnp.moveaxis(z, 1, 0), inputs)
        gathered = reading.record[:, 0].size * sum(z[0, 0].size * z.dtype.itemsize for z in tape)
        if gathered * reading.record.shape[1] <= GATHERED_BYTES:
            read = jax.vmap(of_frame)(frames)
        else:
            read = jax.lax.map(of_frame, frames, batch_size=max(1, GATHERED_BYTES // gathered))
        return self.out(jnp.moveaxis(read, 0, 1))

    @property
    def _angles(self) -> np.ndarray:
        return spatial_angles(*self.config.grid, self.config.width // self.heads)[:, None]

    @property
    def _distances(self) -> Float[Array, "q keys"]:
        """Squared distances between the places of tokens, in tokens."""
        rows, columns = self.config.grid
        place = np.stack(np.divmod(np.arange(rows * columns), columns), axis=-1)
        squares = np.square(place[:, None] - place[None]).sum(-1)
        return jnp.asarray(squares, self.config.state_dtype)

    @property
    def _places(self) -> Float[Array, "n p"]:
        return jnp.asarray(place_code(*self.config.grid), self.config.compute_dtype)


def first_log_weights(key: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype) -> Float[Array, "h"]:
    """From `NEAR` to `FAR`, in equal steps of the logarithm."""
    return jnp.linspace(np.log(NEAR), np.log(FAR), shape[0], dtype=dtype)


def place_code(rows: int, columns: int) -> Float[np.ndarray, "n p"]:
    """A code of every token's place in the frame: cosine and sine of half waves down and across."""
    waves = np.pi / 2 * np.array(PLACE_WAVES)

    def axis(length: int) -> np.ndarray:
        angle = linspace(-1, 1, length)[:, None] * waves
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)

    row, column = axis(rows), axis(columns)
    return np.concatenate([np.repeat(row, columns, axis=0), np.tile(column, (rows, 1))], axis=-1)


MIXER = Bank
