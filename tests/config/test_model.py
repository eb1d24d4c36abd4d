"""What follows from the keys of the model and its memory."""

import pytest

from rad_jax.config import MemoryConfig, ModelConfig
from tests.config.refusals import assert_refused


def test_sizes_that_follow_from_the_model():
    model = ModelConfig(latent=(8, 6, 4), patch=2, dtype="bfloat16")
    assert (model.grid, model.tokens) == ((4, 3), 12)
    assert (model.compute_dtype.name, model.state_dtype.name) == ("bfloat16", "float32")
    assert ModelConfig(dtype="float64").state_dtype.name == "float64"
    assert_refused(lambda: ModelConfig().grid, words=["model.latent=none"])


@pytest.mark.parametrize(
    ("kind", "action", "features"),
    [("lstm", None, 128), ("ttt", None, 0), ("ttt", True, 128), ("lstm", False, 0)],
)
def test_the_action_feature_is_the_lstms_unless_said_otherwise(kind, action, features):
    assert MemoryConfig(kind, action=action).features == features
