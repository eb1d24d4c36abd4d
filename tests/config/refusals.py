"""What a message of a refused configuration must be like."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from rad_jax.config import ConfigError


def assert_refused(call: Callable[..., Any], *arguments: Any, words: Iterable[str], lines: int = 2) -> None:
    """``call`` raises a `ConfigError` of at most ``lines`` short lines that has every one of ``words``."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert len(message.splitlines()) <= lines and len(message) < 600, message
    assert [word for word in words if word not in message] == [], message
