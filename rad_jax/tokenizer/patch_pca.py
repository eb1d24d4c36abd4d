"""Patch PCA: the best linear code of image patches. Fitting it takes a second and needs only frames.

A patch of p x p x 3 values, minus the mean patch, is expressed in the leading eigenvectors of the patch covariance. The basis
is orthonormal and all channels share one scale. A squared error of latents is therefore, up to that scale, the squared error of
the pixels that the basis can express, and the diffusion loss remains a loss on pixels.
"""

import dataclasses
import functools
import io
import math
import operator
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import UInt8

from rad_jax import files
from rad_jax.arrays import fingerprint
from rad_jax.axes import Array, Float, PyTree
from rad_jax.files.npz import Npz
from rad_jax.tokenizer import residual_decoder
from rad_jax.tokenizer.base import Tokenizer, TokenizerError, Unchecked

NAME = "patch_pca"
_CUT = "... (rows y) (cols x) ch -> ... rows cols (y x ch)"
_JOIN = "... rows cols (y x ch) -> ... (rows y) (cols x) ch"
_DECODER = "decoder"
MOST_ARRAYS = 50


@jax.tree_util.register_static  # a pytree without leaves: its few numbers may be compiled into programs
@dataclasses.dataclass(frozen=True, eq=False)
class PatchPCA(Tokenizer):
    """See `Tokenizer`.

    Attributes:
      patch: pixels p along a side of a patch.
      mean: the mean patch, float32 (p * p * 3,).
      basis: orthonormal, float32 (p * p * 3, channels).
      scale: factor of the latents.
      decoder: parameters of the `residual_decoder.correction` of decoded patches, or None.

    Raises:
      TokenizerError: shapes do not fit, or the scale is not a positive number.
    """

    patch: int
    mean: np.ndarray
    basis: np.ndarray
    scale: float
    decoder: PyTree | None = None

    name = NAME
    image = None
    cell = property(lambda self: self.patch)
    channels = property(lambda self: self.basis.shape[1])

    def __post_init__(self):
        size = self.patch * self.patch * 3
        shapes = self.mean.shape, self.basis.shape[:1], self.basis.ndim
        if shapes != ((size,), (size,), 2) or not 0 < self.scale < math.inf:
            raise TokenizerError(
                f"patch {self.patch} does not go with mean {self.mean.shape}, basis {self.basis.shape}, scale {self.scale}"
            )

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of everything that is stored."""
        return fingerprint(self._arrays())

    # What is compiled for one tokenizer serves all that are equal, such as the same file read again.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatchPCA) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def _encode(self, images: Unchecked) -> Float[Array, "... rows cols ch"]:
        patches = rearrange(jnp.asarray(images, jnp.float32), _CUT, y=self.patch, x=self.patch)
        return jnp.matmul(patches - self.mean, self.basis, precision="highest") * self.scale

    def _decode(self, latents: Unchecked) -> Float[Array, "... H W 3"]:
        latents = jnp.asarray(latents, jnp.float32)
        patches = self._linear(latents)
        if self.decoder is not None:
            patches = patches + residual_decoder.correction(self.decoder, latents)
        return rearrange(patches, _JOIN, y=self.patch, x=self.patch, ch=3)

    def with_decoder(self, frames: UInt8[np.ndarray, "m H W 3"], steps: int, seed: int) -> "PatchPCA":
        """Returns a tokenizer with the same latents whose decoder has a correction, trained on `frames` for `steps` steps."""
        images = np.asarray(frames, np.float32) / 255
        patches = rearrange(images, _CUT, y=self.patch, x=self.patch)
        latents = np.asarray(self.encode(images))
        decoder = residual_decoder.train(latents, patches, self._linear, steps=steps, seed=seed)
        return dataclasses.replace(self, decoder=decoder)

    def _linear(self, latents: Float[Array, "... rows cols ch"]) -> Float[Array, "... rows cols f"]:
        return jnp.matmul(latents / self.scale, self.basis.T, precision="highest") + self.mean

    def save(self, path: str | os.PathLike) -> None:
        """Writes the npz file, whole or not at all."""
        arrays = self._arrays()
        file = io.BytesIO()
        np.savez(file, fingerprint=np.array(fingerprint(arrays)), **arrays)
        files.write_bytes(path, file.getvalue())

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"patch": self.patch, "mean": self.mean, "basis": self.basis, "scale": self.scale}
        if self.decoder is not None:
            arrays |= flatten_dict({_DECODER: self.decoder}, sep="/")
        return {name: np.asarray(array) for name, array in arrays.items()}


def fit(frames: Unchecked, patch: int, channels: int) -> PatchPCA:
    """Fits the code to the patches of some frames, in float64.

    The scale is one over the root mean square of the unscaled latents. PCA leaves the sign of a direction open; here its
    largest entry is positive.

    Args:
      frames: uint8 (m, H, W, 3).
      patch: pixels along a side of a patch; divides H and W.
      channels: leading directions to keep, 1 to patch * patch * 3.

    Raises:
      TokenizerError: the frames have another type or shape, or the sizes do not fit.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        found = f"{frames.dtype}{list(frames.shape)}"
        raise TokenizerError(f"fit takes uint8 frames of shape (m, H, W, 3), not {found}")
    if frames.shape[1] % patch or frames.shape[2] % patch:
        found = f"{frames.shape[1]} x {frames.shape[2]}"
        raise TokenizerError(f"frames of {found} cannot be cut into patches of {patch} pixels a side")
    size = patch * patch * 3
    if not 1 <= channels <= size:
        raise TokenizerError(f"a patch of {patch} x {patch} x 3 has 1 .. {size} channels, not {channels}")
    total, product, count = np.zeros(size), np.zeros((size, size)), 0
    for chunk in np.array_split(frames, max(1, len(frames) // 256)):
        patches = rearrange(chunk, "m (r y) (c x) ch -> (m r c) (y x ch)", y=patch, x=patch) / 255.0
        total, product, count = total + patches.sum(0), product + patches.T @ patches, count + len(patches)
    mean = total / count
    variances, vectors = np.linalg.eigh(product / count - np.outer(mean, mean))
    basis = vectors[:, ::-1][:, :channels]
    basis = basis * np.sign(basis[np.abs(basis).argmax(0), np.arange(channels)])
    rms = np.sqrt(max(variances[::-1][:channels].mean(), 1e-12))
    return PatchPCA(patch, mean.astype(np.float32), basis.astype(np.float32), float(1.0 / rms))


def load(path: str | os.PathLike) -> PatchPCA:
    """Reads what `PatchPCA.save` wrote. Raises `TokenizerError` if the file is missing or has changed since."""
    path = pathlib.Path(path)
    if not path.is_file():
        command = f"python -m data_prep.fit_tokenizer --data {path.parent}"
        raise TokenizerError(f"no tokenizer at {path}; make it with: {command}")
    try:
        with Npz(path) as content:
            claimed, size = sum(content.sizes.values()), path.stat().st_size
            if claimed > size or len(content.sizes) > MOST_ARRAYS:  # they are stored as they are
                raise TokenizerError(f"{len(content.sizes)} arrays of {claimed} bytes in a file of {size}")
            arrays = {name: content.read(name) for name in content.sizes}
        stored = str(arrays.pop("fingerprint"))
        if stored != fingerprint(arrays):
            raise TokenizerError("it has changed since it was saved (sha256 differs from its fingerprint)")
        patch, mean, basis, scale = (arrays.pop(name) for name in ("patch", "mean", "basis", "scale"))
        if any(
            array.dtype != np.float32 or not np.isfinite(array).all()
            for array in (mean, basis, *arrays.values())
        ):
            raise TokenizerError("it holds arrays that are not float32, or values that are not finite")
        decoder = unflatten_dict(arrays, sep="/").get(_DECODER)
        pca = PatchPCA(operator.index(patch[()]), mean, basis, scale.item(), decoder)
        jax.eval_shape(pca.decode, jax.ShapeDtypeStruct((1, 1, 1, pca.channels), np.float32))
        return pca
    except Exception as error:  # the fingerprint may be of arrays of any kind
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TokenizerError(f"{path} cannot be used as a tokenizer: {reason}; fit it again") from None
