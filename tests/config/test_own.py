"""Settings that a memory of the user's declares, and which of such memories are trusted."""

from dataclasses import dataclass
from typing import Literal

import pytest

from rad_jax.config import (
    Config,
    ConfigError,
    MemoryConfig,
    Section,
    config_from_json,
    key,
    load_config,
    modes,
    override,
)
from rad_jax.config import own as kinds
from rad_jax.config.messages import require
from tests.config.refusals import assert_refused
from tests.toy_run import EXPERIMENT

KIND = "my_memories.ema:EMA"


@dataclass(frozen=True)
class Settings(Section):
    rank: int = key(8, "columns of the state", low=1)
    decay: float = key(0.9, "share of the state that stays", low=0, below=1)
    shape: tuple[int, int] | None = key(None, "rows and columns", low=1)
    rule: Literal["sum", "mean"] = key("sum", "how frames enter")
    gate: bool = key(False, "whether there is a gate")

    def check(self):
        require(not self.gate or self.rank > 1, "gate=true: needs rank >= 2")


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    monkeypatch.setattr(kinds, "_trusted", set())


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", Settings()),
        ("rank=4", Settings(rank=4)),
        (" rank = 4 , decay=0, shape=(2,3),rule=mean", Settings(4, 0.0, (2, 3), "mean")),
        ("shape=none,gate=true,", Settings(gate=True)),
    ],
)
def test_settings_are_read_as_keys_are(text, settings):
    assert kinds.read_settings(Settings, text) == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rank=0", ["rank=0: expected an integer >= 1"]),
        ("rank=eight", ["rank=eight: expected an integer >= 1"]),
        ("decay=1", ["decay=1: expected a number >= 0 and < 1"]),
        ("rule=summ", ["rule=summ: expected one of sum, mean", "did you mean sum?"]),
        ("shape=(2,)", ["shape=(2): expected 2 integers"]),
        ("rnak=8", ["rnak: unknown setting; did you mean rank?"]),
        ("colour=8", ["colour: unknown setting; there are rank, decay, shape, rule, gate"]),
        ("rank=8,rank=9", ["rank=9: given twice, before as 8"]),
        ("rank", ["'rank': expected name=value"]),
        ("gate=true,rank=1", ["gate=true: needs rank >= 2"]),
        ("rank=__import__('os').getpid()", ["rank=__import__", "an integer"]),
    ],
)
def test_what_is_wrong_with_one_is_said_in_a_line(text, words):
    assert_refused(kinds.read_settings, Settings, text, words=["memory.own: ", *words], lines=1)


def test_a_kind_of_the_users_is_any_other_value_of_the_key():
    config = override(Config(), {"memory.kind": KIND, "memory.own": "rank=0"})
    assert config_from_json(config.to_json()) == config
    memory = config.memory
    assert (modes(KIND), memory.has_tape, memory.posed, memory.features) == ("fcs", False, False, 0)
    assert_refused(
        lambda: MemoryConfig(own="rank=8"), words=["memory.own=rank=8", "memory.kind=lstm"], lines=1
    )


def test_what_the_user_names_is_trusted_and_what_a_file_names_is_not():
    named = load_config(str(EXPERIMENT), ["memory.kind=my_memories.a:A"])
    kinds.check_trusted(named.memory.kind)
    stored = config_from_json(override(named, {"memory.kind": KIND}).to_json())
    words = ["run: memory.kind=", KIND, "--config.memory.kind=", "mixers.trust("]
    assert_refused(kinds.check_trusted, stored.memory.kind, "run: ", words=words, lines=1)
    kinds.trust(KIND)
    kinds.check_trusted(KIND)
    kinds.check_trusted("lstm")
    with pytest.raises(ConfigError, match=r"trust\('lstm'\)"):
        kinds.trust("lstm")
