"""The memory of the guide, as the package of a user that tests can import."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
_BLOCK = re.compile(r"`(my_memories/ema\.py)`:\n\n```python\n(.*?)```", re.DOTALL)


def guide() -> str:
    """The file that docs/memories.md shows."""
    return _BLOCK.search((ROOT / "docs" / "memories.md").read_text())[2]


def write_package(directory: Path, name: str) -> str:
    """Writes the memory into a package of a name that no other test has; returns its kind."""
    package = directory / name
    package.mkdir()
    (package / "ema.py").write_text(guide())
    return f"{name}.ema:EMA"
