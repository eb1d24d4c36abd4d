"""What a training is refused for before it begins; most of it is tried in tests/config/test_mistakes.py."""

import os

import pytest

from rad_jax.config import ConfigError
from rad_jax.runs.training_run import open_training_run
from rad_jax.training.start import check_space


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.width": 2**20}, "model.width=1048576 with model.depth=2: the state"),
        (
            {"train.batch": 2**20},
            "train.batch=1048576 with data.clip=12: a batch takes 9 GiB, expected at most 4 GiB",
        ),
    ],
)
def test_what_is_larger_than_all_memory_is_refused(changes, words, toy, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 2**12, "SC_PHYS_PAGES": 2**20}.__getitem__)
    check_space(open_training_run(toy.config()))
    with pytest.raises(ConfigError, match=words):
        check_space(open_training_run(toy.config(changes=changes)))
