"""JSON files of unknown origin: read with limits, and compared with the form that their reader expects.

A form is a type (``int``: a whole number from 0 to 2**53; ``float``: any finite number; ``str``: text without control
characters; ``object``: anything), a union such as ``str | None``, ``[form]`` for a list of such items, ``(form, form)`` for a
list of that length, ``{key: form}`` for an object with at least these keys, or ``{"*": form}`` for an object all of whose
values have one form.
"""

import hashlib
import json
import os
import re
import reprlib
import stat
import sys
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from rad_jax.errors import shown

_LARGEST = 2**30  # bytes
_MOST = 2**53
# A NUL ends a path, others move the cursor of a terminal, and half of a surrogate pair cannot be written anywhere.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_WORDS = {
    int: f"a whole number from 0 to {_MOST}",
    float: "a finite number",
    str: "text without control characters",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def read_json(path: Path | str, form: Any = object) -> Any:
    """Returns what a JSON file says.

    Raises:
      OSError: it cannot be opened or read.
      ValueError: it is no regular file, no JSON in UTF-8, has NaN or an infinity, is nested too deeply, is larger than
        1 GiB, or is not of this ``form``; the message names the field, not the file.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe could wait for ever
        raise ValueError("a directory, a pipe or a device, expected a file")
    if status.st_size > _LARGEST:
        raise ValueError(f"{status.st_size} bytes, expected at most {_LARGEST}")
    return parse_json(Path(path).read_bytes(), form)


def parse_json(text: bytes | str, form: Any = object) -> Any:
    """Returns what a JSON text says. Raises ValueError as `read_json` does."""
    try:
        content = json.loads(text if isinstance(text, str) else text.decode("utf-8"), parse_constant=_refuse)
        check_form(content, form)
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"nested too deeply or too large ({type(error).__name__})") from None
    return content


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON object with the "sha256" of everything else in it."""
    content = {key: value for key, value in content.items() if key != "sha256"}
    return {**content, "sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def check_seal(content: dict[str, Any]) -> None:
    """Raises ValueError if an object has a "sha256" that `sealed` would not have given it."""
    try:
        if "sha256" in content and content["sha256"] != sealed(content)["sha256"]:
            raise ValueError("its sha256 is of another content: it has changed since it was written")
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_form(value: Any, form: Any, where: str = "") -> None:
    """Raises ValueError, naming the field below ``where``, unless a value has a form (see the module)."""
    if form is object:
        return
    if isinstance(form, UnionType):
        kinds = get_args(form)
        if not any(_is_a(value, kind) for kind in kinds):
            raise _unlike(where, value, " or ".join(_WORDS[kind] for kind in kinds))
    elif isinstance(form, type):
        if not _is_a(value, form):
            raise _unlike(where, value, _WORDS[form])
    elif isinstance(form, tuple):
        if type(value) is not list or len(value) != len(form):
            raise _unlike(where, value, f"{len(form)} values")
        for number, (item, inner) in enumerate(zip(value, form)):
            check_form(item, inner, f"{where}[{number}]")
    elif isinstance(form, list):
        check_form(value, list, where)
        for number, item in enumerate(value):
            check_form(item, form[0], f"{where}[{number}]")
    else:
        check_form(value, dict, where)
        for key, inner in (dict.fromkeys(value, form["*"]) if "*" in form else form).items():
            field = f"{where}.{shown(key, 80)}".removeprefix(".")
            if key not in value:
                raise ValueError(f"{field} is missing")
            check_form(value[key], inner, field)


def has_form(value: Any, form: Any) -> bool:
    """Whether `check_form` passes."""
    try:
        check_form(value, form)
    except ValueError:
        return False
    return True


def _is_a(value: Any, kind: type) -> bool:
    if kind is int:
        return type(value) is int and 0 <= value <= _MOST
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is kind and not (kind is str and _CONTROL.search(value))


def _unlike(where: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{where or 'its content'} is {shown(reprlib.repr(value), 120)}, expected {expected}")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
