"""A configuration as text: every key with its value, default, meaning and source."""

import re

import pytest

from rad_jax.config import Config, flatten, format_config, override
from rad_jax.config.load import KEYS
from rad_jax.config.messages import show_value
from rad_jax.config.show import SOURCES

COMMAND = "python -m make --out {path} --size 64x64 && " * 4 + "echo done"


@pytest.fixture(scope="module")
def config():
    return override(Config(), {"model.latent": (4, 4, 16), "data.make": COMMAND, "train.steps": 7})


@pytest.fixture(scope="module")
def shown(config):
    """The text of each key, its lines joined, by dotted name."""
    entries = re.split(r"^  (?=\w+(?:\.\w+)? =)", format_config(config), flags=re.MULTILINE)[1:]
    unwrapped = (" ".join(re.sub(r"\\\n|\n +# ", "\n", entry).split()) for entry in entries)
    return {entry.partition(" =")[0]: entry for entry in unwrapped}


def test_every_key_is_shown_with_value_meaning_and_source(config, shown):
    assert list(shown) == list(flatten(config))
    for path, value in flatten(config).items():
        declared = KEYS[path]
        assert shown[path].startswith(f"{path} = {show_value(value)}".strip())
        assert f"{declared.help} [{declared.source}]" in shown[path]
    for name, meaning in SOURCES.items():
        assert f"[{name}] {meaning}" in " ".join(format_config(config).split())


def test_the_default_is_shown_where_the_value_is_another(config, shown):
    changed = {path for path, text in shown.items() if "# default: " in text or " default: " in text}
    assert changed == {"model.latent", "data.make", "train.steps"}
    assert "default: 5000" in shown["train.steps"] and "default: none" in shown["model.latent"]


def test_lines_fit_80_columns_and_a_wrapped_command_is_still_one(config):
    text = format_config(config)
    assert max(map(len, text.splitlines())) <= 80 and " \n" not in text
    value = text.partition("data.make = ")[2].partition("  # default")[0]
    assert "\\\n" in value and " ".join(value.replace("\\\n", " ").split()) == COMMAND


def test_words_longer_than_a_line_stay_whole():
    path = "/".join(["directory"] * 12)
    assert f"data.path = {path}\n" in format_config(override(Config(), {"data.path": path}))
