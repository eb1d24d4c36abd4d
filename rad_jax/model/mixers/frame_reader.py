"""How the tokens of a frame read whole frames: keys and values of all tokens of several frames, in one softmax.

    y = o(softmax(q^T K / sqrt(e) + l - exp(a) |place - place'|^2 - exp(b) |pose - pose'|^2) V)
    q = R (x Wq);   K, V = keys and values of the frames that are read;   l = a logit of each frame

R is the rotation by the token's place in the frame; keys come rotated in the same way. A mixer that knows where frames were
seen from bends its queries, one for every frame that is read, and has a code of the place in its keys:

    q = R (x Wq + W' gelu(x Wx + p Wp + u Wu));   k = x Wk + u Wk'

p is where a frame was seen from, relative to the reader's, u a code of the token's place in the frame, so that a turned or
moved camera looks for its own view elsewhere in the frame that it reads. Values hold nothing of a pose. A token for which there
is nothing to read gets exactly 0.

The two distances, of the tokens' places in tokens and of the frames' poses, have a weight per head, and heads start at
different ones: some as a look-up of the same place in the nearest view, which is a good memory already, others without
preference. Without them a head has to find out first that places exist.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from rad_jax.arrays import linspace
from rad_jax.axes import Array, Bool, Float, Key, PyTree
from rad_jax.model.attention import scaled_logits, softmax, xavier
from rad_jax.model.mixers import Mixer
from rad_jax.model.rope import rotate as turn
from rad_jax.model.rope import spatial_angles

NEAR, FAR = 2.0, 0.02  # first weights of the squared distances: of the first head and of the last one
PLACE_WAVES = (1, 2, 4)  # half waves across the frame
GATHERED_BYTES = 2**26  # of what is read, by frames that read at once


class Shown(NamedTuple):
    """What one frame of every video reads.

    Attributes:
      keys: rotated; like values in the compute dtype.
      valid: whether there is such a frame.
      logit: added to the logits of all tokens of a frame; None: nothing.
    """

    keys: Float[Array, "b r n h e"]
    values: Float[Array, "b r n h e"]
    valid: Bool[Array, "b r"]
    logit: Float[Array, "b r"] | None = None


class View(NamedTuple):
    """Where what is read was seen from: relative to the reader (`addressing.relative_pose`), and the squared distance."""

    pose: Float[Array, "b t r x"]
    apart: Float[Array, "b t r"]


class FrameReader(Mixer):
    """See the module docstring. What a mixer keeps of frames, and what a frame is shown of it, is its own business."""

    @property
    def bends(self) -> bool:
        """Whether queries depend on where frames were seen from, as far as the model is given it."""
        return True

    def setup(self):
        config, types = self.config, {"kernel_init": xavier, **self.config.types}
        width, dtype, free = config.width, config.state_dtype, {"use_bias": False, **types}
        self.query, self.key, self.value = (nn.Dense(width, **free) for _ in range(3))
        if self.bends:
            self.key_place, self.query_place = nn.Dense(width, **free), nn.Dense(width, **types)
            self.query_token = nn.Dense(width, **free)
            if config.heading_at:
                self.query_pose = nn.Dense(width, **free)
            self.bend = self.param("bend", xavier, (width, width), dtype)
        self.out = nn.Dense(width, **free)
        self.near_place = self.param("near_place", first_log_weights, (self.heads,), dtype)
        if self.bends:
            self.near_pose = self.param("near_pose", first_log_weights, (self.heads,), dtype)

    def keys_and_values(
        self, x: Float[Array, "b t n f"]
    ) -> tuple[Float[Array, "b t n d"], Float[Array, "b t n d"]]:
        """Those of every frame, not rotated."""
        keys = self.key(x)
        return keys + self.key_place(self._places) if self.bends else keys, self.value(x)

    def rotate(self, x: Float[Array, "*b n h e"]) -> Float[Array, "*b n h e"]:
        """By the places of the tokens in the frame."""
        return turn(x, spatial_angles(*self.config.grid, self.config.width // self.heads)[:, None])

    def read_frames(
        self,
        x: Float[Array, "b t n f"],
        show: Callable[[Any], Shown],
        what: PyTree,
        size: int,
        view: View | None = None,
    ) -> Float[Array, "b t n d"]:
        """Every frame reads what it is shown.

        Args:
          show: makes what one frame of every video reads, of an entry (b, ...) of ``what``.
          what: leaves (b, t, ...).
          size: bytes that are made for one frame of all videos.
          view: of what is shown, for a mixer that bends its queries.
        """
        dtype, far_place = self.config.compute_dtype, jnp.exp(self.near_place)[:, None, None, None]
        far_place = far_place * self._distances[:, None]
        inputs = (self.query(x), what)
        if self.bends:
            token = self.query_token(x) + self.query_place(self._places)
            pose = jnp.zeros((*view.apart.shape, 1), dtype)
            if self.config.heading_at:
                pose = self.query_pose(view.pose.astype(dtype))
            bend, far_pose = self.bend.astype(dtype), jnp.exp(self.near_pose)[:, None, None, None]
            inputs = (*inputs, token, pose, view.apart)

        def of_frame(frame: tuple) -> Float[Array, "b n d"]:
            query, what, *bending = frame
            shown, q = show(what), query[:, None]
            if bending:
                token, pose, apart = bending
                q = q + nn.gelu(token[:, None] + pose[:, :, None]) @ bend
            q = self.rotate(rearrange(q, "b r n (h e) -> b r n h e", h=self.heads))
            if bending:
                logits = scaled_logits("brqhe,brkhe->bhqrk", q, shown.keys)
                logits = logits - far_pose * apart[:, None, None, :, None]
            else:
                logits = scaled_logits("bqhe,brkhe->bhqrk", q[:, 0], shown.keys)
            logits = logits - far_place
            if shown.logit is not None:
                logits = logits + shown.logit[:, None, None, :, None]
            return attend(logits, shown)

        frames = jax.tree.map(lambda z: jnp.moveaxis(z, 1, 0), inputs)
        at_once = size * x.shape[1] <= GATHERED_BYTES
        if self.config.remat or not at_once:  # what is shown is ``r`` times what the frames themselves take
            of_frame = jax.checkpoint(of_frame)
        if at_once:
            read = jax.vmap(of_frame)(frames)
        else:
            read = jax.lax.map(of_frame, frames, batch_size=max(1, GATHERED_BYTES // size))
        return self.out(jnp.moveaxis(read, 0, 1))

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


def attend(logits: Float[Array, "b h q r keys"], shown: Shown) -> Float[Array, "b q d"]:
    """One softmax over all tokens of all valid frames; 0 where there is none."""
    valid = shown.valid[:, None, None, :, None]
    flat = rearrange(jnp.where(valid, logits, jnp.finfo(logits.dtype).min), "b h q r k -> b h q (r k)")
    weights = rearrange(softmax(flat), "b h q (r k) -> b h q r k", r=shown.keys.shape[1])
    weights = jnp.where(valid, weights, 0).astype(shown.values.dtype)
    return rearrange(jnp.einsum("bhqrk,brkhe->bqhe", weights, shown.values), "b q h e -> b q (h e)")


def first_log_weights(key: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype) -> Float[Array, "h"]:
    """From `NEAR` to `FAR`, in equal steps of the logarithm."""
    return jnp.linspace(math.log(NEAR), math.log(FAR), shape[0], dtype=dtype)


def place_code(rows: int, columns: int) -> Float[np.ndarray, "n p"]:
    """A code of every token's place in the frame: cosine and sine of half waves down and across."""
    waves = np.pi / 2 * np.array(PLACE_WAVES)

    def axis(length: int) -> np.ndarray:
        angle = linspace(-1, 1, length)[:, None] * waves
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)

    row, column = axis(rows), axis(columns)
    return np.concatenate([np.repeat(row, columns, axis=0), np.tile(column, (rows, 1))], axis=-1)
