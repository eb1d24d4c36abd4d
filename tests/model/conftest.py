"""A switch that most tests of the model are under: they compare two orders of the same sums."""

import jax
import pytest


@pytest.fixture
def float64():
    """How far float32 is off depends on the processor."""
    with jax.enable_x64(True):
        yield
