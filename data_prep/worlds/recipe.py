"""What the recipes of all worlds share: how a field is declared, the checks, and the options of a command line.

A recipe is everything that the frames of a data set depend on. A field says once what it means, which numbers are possible and
which protocols it is for (`option`); the checks, the options of the commands and their help follow from that.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, TypeVar, get_args

import numpy as np

from data_prep.common.command import Parser, positive
from rad_jax.errors import UserError

# The places in these tuples seed the random generators of episodes, so their order stays. Splits share no world.
PROTOCOLS = ("train", "rotate", "loop", "return")
SPLITS = ("train", "test", "validation")
CONTEXT_SHARE = 0.6  # of the frames of an evaluation


class RecipeError(UserError, ValueError):
    """A recipe that cannot be followed; the message names the field, its value and what is expected."""


def expect_one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raises `RecipeError` unless the value is one of those allowed."""
    if value not in allowed:
        raise RecipeError(f"{name}: {value!r} is unknown, expected one of {', '.join(map(str, allowed))}")


def expect_between(name: str, value: float, low: float, high: float) -> None:
    """Raises `RecipeError` unless ``low`` <= ``value`` <= ``high``."""
    if not low <= value <= high:
        raise RecipeError(f"{name}: {value} is out of range, expected {low} to {high}")


def option(
    meaning: str,
    default: Any = MISSING,
    *,
    between: tuple[float, float] | None = None,
    protocols: Sequence[str] = PROTOCOLS,
    evaluations_only: bool = False,
) -> Any:
    """A field of a recipe.

    Args:
      meaning: for the reader of the code and of --help; of a field that no protocol has, why there is no such choice.
      default: ``None`` stands for a default that depends on other fields, which a property of the recipe gives.
      between: the smallest and the largest number.
      protocols: those for which it has a meaning; for others it must have its default. With none of them, which is for a
        recipe that inherits the field, it is no option of the command.
      evaluations_only: whether it has a meaning in evaluations alone.
    """
    about = {
        "meaning": meaning,
        "between": between,
        "protocols": protocols,
        "evaluations_only": evaluations_only,
    }
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class EpisodeRecipe:
    """The first fields of every recipe, and the checks that `option` asks for.

    Raises:
      RecipeError: a value, or a combination, that is not possible.
    """

    protocol: str = option(f"what is done: one of {', '.join(PROTOCOLS)}")
    split: str = option(f"one of {', '.join(SPLITS)}; walks outside of train are evaluations", "train")
    seed: int = option("of the random generators", 0, between=(0, 2**32 - 1))

    tested: ClassVar[Sequence[str]]
    """Protocols for which a command writes the split test unless told otherwise."""

    def __post_init__(self) -> None:
        expect_one_of("protocol", self.protocol, PROTOCOLS)
        expect_one_of("split", self.split, SPLITS)
        for declared in fields(self):
            name, value, about = declared.name, getattr(self, declared.name), declared.metadata
            if value is None or not about:
                continue
            for_this = self.protocol in about["protocols"] and (
                self.has_context or not about["evaluations_only"]
            )
            if value != declared.default and not for_this:
                reason = f"for protocol {self.protocol}, split {self.split}"
                reason = reason if about["protocols"] else f"because {about['meaning']}"
                raise RecipeError(f"{name}: {value} has no meaning {reason}")
            if about["between"]:
                expect_between(name, value, *about["between"])

    def generator(self, index: int) -> np.random.Generator:
        """What an episode of this seed, split and protocol is drawn from."""
        place = SPLITS.index(self.split), PROTOCOLS.index(self.protocol)
        return np.random.default_rng((self.seed, *place, index))

    @property
    def has_context(self) -> bool:
        """Whether the episodes are evaluations: some frames are given, the others are predicted."""
        return self.protocol != "train" and self.split != "train"


Kind = TypeVar("Kind", bound=EpisodeRecipe)


def new_parser(program: str, description: str | None, kind: type[EpisodeRecipe]) -> Parser:
    """A parser of --out, --episodes and the fields of a recipe that are an `option`. Those that are not given are `None`."""
    parser = Parser(program, description)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="directory to write to")
    add("--episodes", type=positive, required=True, help="number of episodes")
    add("--split", help=f"{' or '.join(SPLITS)}; default: test for {', '.join(kind.tested)}, else train")
    for declared in fields(kind):
        about, default = declared.metadata, declared.default
        if declared.name == "split" or not about.get("protocols"):
            continue
        # The type without the None of a default that depends on other fields.
        (type_,) = {*(get_args(declared.type) or [declared.type])} - {NoneType}
        as_switch = {"action": argparse.BooleanOptionalAction} if type_ is bool else {"type": type_}
        text = about["meaning"]
        limits = [*about["protocols"]] if about["protocols"] != PROTOCOLS else []
        limits += ["evaluations"] if about["evaluations_only"] else []
        if limits:
            text = f"{', '.join(limits)}: {text}"
        if default not in (MISSING, None) and type_ is not bool:
            text += f" ({default})"
        flag = f"--{declared.name.replace('_', '-')}"
        add(flag, required=default is MISSING, help=text.replace("%", "%%"), **as_switch)
    return parser


def recipe_from(options: argparse.Namespace, kind: type[Kind]) -> Kind:
    """The recipe that the options ask for.

    Raises:
      RecipeError: see the kind of recipe.
    """
    given = {f.name: getattr(options, f.name, None) for f in fields(kind)}
    given = {name: value for name, value in given.items() if value is not None}
    return kind(**{"split": "test" if options.protocol in kind.tested else "train"} | given)
