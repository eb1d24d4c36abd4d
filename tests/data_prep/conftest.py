"""Recordings that the tests of the commands share."""

from pathlib import Path

import pytest

from tests.data_prep.recordings import format_files as files


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> tuple[Path, dict[str, files.Expected]]:
    """Seven recordings with poses, and what their readers must make of them."""
    src = tmp_path_factory.mktemp("vrag")
    names = [f"{k % 2}/00000{k}" for k in range(7)]
    return src, {
        name.replace("/", "-"): files.vrag(src, name=name, frames=24 + k, seed=k)
        for k, name in enumerate(names)
    }
