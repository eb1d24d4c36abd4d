"""Makes the weight file of LPIPS for one net from what torchvision and the authors of LPIPS publish.

    python -m data_prep.convert_lpips --net alex --backbone alexnet-owt-7be5be79.pth --heads alex.pth --out alex.safetensors
    python -m data_prep.convert_lpips --net vgg --backbone vgg16-397923af.pth --heads vgg.pth --out vgg.safetensors

The backbone is the state dict of torchvision's alexnet or vgg16, of which the convolutions are used; the heads are
``lpips/weights/v0.1/NET.pth`` of the package lpips. Both are read from .pth files (pip install 'rad_jax[torch]'), without
running code that is in them, or from .safetensors. Give the result to evaluations as --config.evaluate.lpips=FILE.
"""

import pathlib
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
from safetensors.numpy import save

from data_prep.common.command import Parser, run
from data_prep.common.torch_files import read_torch
from rad_jax.arrays import fingerprint
from rad_jax.files import write_bytes
from rad_jax.metrics.lpips import NETS, ROOTS, fill
from rad_jax.weights.tensors import WeightsError, read_tensors, without_wrappers

PROGRAM = "convert_lpips"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(PROGRAM, __doc__)
    parser.add_argument("--net", required=True, choices=sorted(NETS), help="backbone")
    parser.add_argument("--backbone", required=True, type=pathlib.Path, help="torchvision's weights of it")
    parser.add_argument("--heads", required=True, type=pathlib.Path, help="the weights of LPIPS v0.1 on it")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="file to write, .safetensors")
    options = parser.parse_args(arguments)
    return run(PROGRAM, partial(convert, **vars(options)), continues=False)


def convert(net: str, backbone: pathlib.Path, heads: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the tensors of LPIPS; arguments are those of the command.

    Raises:
      TorchFileError, WeightsError: a file cannot be read or does not fit the net; nothing is written then.
      OSError: `out` cannot be written.
    """
    if out.suffix != ".safetensors":
        raise WeightsError(f"--out {out}: expected the name of a .safetensors file")
    convolutions = {n: array for n, array in _read(backbone).items() if not n.startswith("classifier.")}
    tensors = convolutions | _read(heads)
    _, used = fill(net, tensors, f"{backbone} and {heads} against LPIPS on {net}")
    for name, array in used.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"{name} of {backbone} or {heads} holds values that are NaN or infinite")
    used = {name: np.ascontiguousarray(array) for name, array in used.items()}
    write_bytes(out, save(used))
    print(f"{out}: LPIPS on {net}, {len(used)} tensors, sha256 {fingerprint(used)[:12]}")


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        return without_wrappers(read_tensors(path), ROOTS)
    content = read_torch(path)
    if not isinstance(content, dict) or not all(isinstance(array, np.ndarray) for array in content.values()):
        raise WeightsError(f"{path}: expected a state dict, tensors by name")
    return without_wrappers({str(name): array for name, array in content.items()}, ROOTS)


if __name__ == "__main__":
    sys.exit(main())
