"""What a hostile file holds."""

import os
from pathlib import Path


class Attack:
    """Unpickled it makes a directory."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
