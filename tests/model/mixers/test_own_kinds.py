"""Memories of the user's, named by module and class: what cannot be used is refused in a line or two."""

import sys

import pytest

from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.model.mixers import build, check_kind, trust
from tests.config.refusals import assert_refused
from tests.model.mixers.own import guide

MODULE = """
from rad_jax.config import ConfigError, Section
from rad_jax.model.mixers import Mixer


class Plain(Mixer):
    def initial_state(self, batch, tokens): ...
    def read(self, state, x): ...
    def walk(self, state, x): ...


class FrameWise(Plain):
    modes = "f"


class Wide(Plain):
    @classmethod
    def check_settings(cls, config):
        if config.width < 2000:
            raise ConfigError(f"model.width={config.width}: too narrow")


class Unread(Mixer):
    def initial_state(self, batch, tokens): ...


class Bare(Plain):
    class Settings:
        rank = 3


class Undeclared(Plain):
    class Settings(Section):
        rank = 3


class Thing:
    pass


number = 3
"""


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "own_kinds_ema.py").write_text(guide())
    (folder / "own_kinds.py").write_text(MODULE)
    (folder / "own_kinds_broken.py").write_text("1 / 0\n")
    (folder / "own_kinds_exits.py").write_text("import sys; sys.exit(0)\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def config(kind, own="", **memory) -> ModelConfig:
    trust(kind)
    return ModelConfig(memory=MemoryConfig(kind=kind, own=own, **memory))


@pytest.mark.parametrize(
    ("kind", "own", "words"),
    [
        ("own_kinds_no:X", "", ["cannot be imported", "ModuleNotFoundError"]),
        ("own_kinds.no:X", "", ["module own_kinds.no cannot be imported"]),
        ("own_kinds_broken:X", "", ["cannot be imported (ZeroDivisionError: division by zero)"]),
        ("own_kinds_exits:X", "", ["cannot be imported (SystemExit: 0)"]),
        ("own_kinds:X", "", ["own_kinds has no class X that is derived from rad_jax.model.mixers.Mixer"]),
        ("own_kinds:Thing", "", ["no class Thing that is derived"]),
        ("own_kinds:number", "", ["no class number that is derived"]),
        ("own_kinds:Unread", "", ["Unread has no method read and no walk"]),
        ("rad_jax.model.mixers.bank:Bank", "", ["Bank has no method read and no walk"]),
        ("own_kinds:Plain", "rank=8", ["memory.own=rank=8", "no settings of its own"]),
        ("own_kinds:Bare", "", ["no frozen dataclass derived from rad_jax.config.Section"]),
        ("own_kinds:Undeclared", "", ["no frozen dataclass derived from rad_jax.config.Section"]),
        ("own_kinds:Wide", "", ["model.width=1024: too narrow"]),
        ("own_kinds_ema:EMA", "decay=1", ["memory.own: decay=1: expected a number > 0 and < 1"]),
        ("own_kinds_ema:EMA", "dacay=1", ["memory.own: dacay: unknown setting; did you mean decay?"]),
    ],
)
def test_a_kind_that_cannot_be_used_is_refused(kind, own, words):
    assert_refused(check_kind, config(kind, own), words=words, lines=1)


def test_a_class_says_in_which_modes_it_is():
    check_kind(config("own_kinds:FrameWise"))
    for slide in ({}, {"stride": 20, "window": "rollout"}, {"stride": 2, "window": "rollout"}):
        check_kind(config("own_kinds:Plain", **slide))
        if slide:
            words = [f"memory.stride={slide['stride']}", "has the modes f alone"]
            assert_refused(check_kind, config("own_kinds:FrameWise", **slide), words=words, lines=1)


def test_a_mixer_has_its_own_settings():
    assert build(config("own_kinds_ema:EMA")).own.decay == 0.95
    assert build(config("own_kinds_ema:EMA", "decay=0.5")).own.decay == 0.5


def test_what_is_not_trusted_is_not_imported():
    untrusted = ModelConfig(memory=MemoryConfig(kind="own_kinds_never:X"))
    assert_refused(
        build, untrusted, words=["own_kinds_never:X", "mixers.trust('own_kinds_never:X')"], lines=1
    )
    assert "own_kinds_never" not in sys.modules
