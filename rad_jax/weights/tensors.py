"""Reads tensors by name from safetensors files, and compares them strictly with what a model expects.

Files come from strangers: nothing in them is executed, and everything in them is checked. A set of weights is loaded as a whole
or not at all, because a model with half of its weights produces noise and gives no hint why.
"""

import itertools
import os
import pathlib
import re
from collections.abc import Collection, Mapping

import numpy as np

from rad_jax.data.spec import check_file_name
from rad_jax.errors import shown
from rad_jax.files.json_files import read_json
from rad_jax.weights.safetensors_file import (
    SUFFIX,
    WeightsError,
    read_layout,
    read_tensor,
)

INDEX = f"{SUFFIX}.index.json"  # how the name of an index of several files ends
NAMED = 3  # how many names of each kind an error lists
# Modules that programs wrap around others, at any depth.
_WRAPPERS = re.compile(r"(^|\.)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns all tensors of a safetensors file by name, or of the files that an index (``*.safetensors.index.json``) names.

    Floats of 16 bits are widened to float32, which is exact; float64 and integers keep their type.

    Raises:
      WeightsError: a file is missing; it is of another format (the error then has the command that converts it); its header
        has a key twice, or does not describe exactly the bytes that follow; a tensor holds NaN or infinity; an index names
        other tensors than its files have, or files elsewhere.
    """
    path = pathlib.Path(path)
    if not path.name.endswith(INDEX):
        return _read_file(path)
    found: dict[str, np.ndarray] = {}
    places = _read_index(path)
    for name in sorted(set(places.values())):
        tensors = _read_file(path.with_name(name))
        expected = {tensor for tensor, place in places.items() if place == name}
        if differing := expected ^ tensors.keys():
            raise WeightsError(
                f"{path}: {name} and the index differ in {len(differing)} tensors, as {shown(min(differing), 120)}"
            )
        found |= tensors
    return found


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Returns the texts by name that a safetensors file has beside its tensors; raises as `read_tensors`."""
    path = pathlib.Path(path)
    return {} if path.name.endswith(INDEX) else read_layout(path).metadata


def without_wrappers(tensors: Mapping[str, np.ndarray], roots: Collection[str]) -> dict[str, np.ndarray]:
    """Tensors by the names that their model gives them, without what training programs have put before every name.

    Such are ``module.``, ``_orig_mod.`` (torch.compile; also within a name), ``model.`` and ``ema.``, nested or not.

    Args:
      tensors: by name.
      roots: with what the names of the model begin, up to the first dot. Before them, parts that all names share are left out.

    Raises:
      WeightsError: two tensors would have the same name.
    """
    names = {name: _WRAPPERS.sub(r"\1", name) for name in tensors}
    ends = (end.split(".")[:-1] for end in (min(names.values(), default=""), max(names.values(), default="")))
    shared = [
        one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*ends))
    ]  # by all between
    while shared and shared[0] not in roots:
        start = len(shared.pop(0)) + 1
        names = {name: short[start:] for name, short in names.items()}
    found = {short: tensors[name] for name, short in names.items()}
    if len(found) < len(tensors):
        raise WeightsError(
            f"{len(tensors) - len(found)} of {len(tensors)} tensors are there twice, with and without a wrapper"
        )
    return found


def match(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], what: str
) -> dict[str, np.ndarray]:
    """Returns exactly the tensors that ``shapes`` names, in its order.

    Args:
      tensors: what a file holds; each must be needed.
      shapes: what the model needs; each must exist with this shape and a floating-point type.
      what: where the tensors are from and what they are compared with; the error begins with it.

    Raises:
      WeightsError: with the numbers of matching, missing, unexpected and wrongly shaped tensors, and the first names of each,
        or with the first tensor that is not finite.
    """
    problems: dict[str, list[str]] = {"missing": [], "unexpected": [], "wrong": []}
    for name, shape in shapes.items():
        found = tensors.get(name)
        if found is None:
            problems["missing"].append(shown(name, 120))
        elif found.shape != tuple(shape) or found.dtype.kind != "f":
            problems["wrong"].append(
                f"{shown(name, 120)}: {found.dtype}{list(found.shape)}, expected float32{list(shape)}"
            )
    problems["unexpected"] = [shown(name, 120) for name in tensors if name not in shapes]
    if any(problems.values()):
        matching = len(shapes) - len(problems["missing"]) - len(problems["wrong"])
        counts = [f"{matching} of {len(shapes)} tensors match"]
        for kind, names in problems.items():
            first = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
            counts += [f"{len(names)} {kind} ({first})"] if names else []
        raise WeightsError(f"{what}: {'; '.join(counts)}; nothing was loaded")
    for name in shapes:
        if not np.isfinite(tensors[name]).all():
            raise WeightsError(
                f"{what}: {shown(name, 120)} holds values that are NaN or infinite; nothing was loaded"
            )
    return {name: tensors[name] for name in shapes}


def _read_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    layout = read_layout(path)
    try:
        with open(path, "rb") as file:
            return {
                name: _checked(path, name, read_tensor(path, file, *place))
                for name, place in layout.tensors.items()
            }
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None


def _read_index(path: pathlib.Path) -> dict[str, str]:
    """The names of tensors, and the file of each, which lies beside the index."""
    try:
        places = read_json(path, {"weight_map": {"*": str}})["weight_map"]
        for name in set(places.values()):
            check_file_name("the file", name)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise WeightsError(f"{path}: not an index of {SUFFIX} files ({error})") from None
    return places


def _checked(path: pathlib.Path, name: str, array: np.ndarray) -> np.ndarray:
    """Widens a tensor, and raises `WeightsError` if a value is not finite."""
    if array.dtype.kind not in "iu" and not np.isfinite(array).all():
        bad = array.size - np.count_nonzero(np.isfinite(array))
        raise WeightsError(
            f"{path}: {shown(name, 120)} holds {bad} values that are NaN or infinite, of {array.size}"
        )
    return array.astype(np.float32) if array.dtype.itemsize == 2 and array.dtype.kind not in "iu" else array


def to_float32(array: np.ndarray, what: str) -> np.ndarray:
    """A tensor as float32. Raises `WeightsError`, which begins with ``what``, for float64 values that it cannot hold."""
    try:
        with np.errstate(over="raise"):
            return array.astype(np.float32, copy=False)
    except FloatingPointError:
        raise WeightsError(f"{what}: float64 values that float32 cannot hold") from None
