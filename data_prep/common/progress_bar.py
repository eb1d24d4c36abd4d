"""How far a command is with its episodes."""

from tqdm import tqdm


class ProgressBar:
    """Opens when something is first reported, so that a refused job shows none. What an earlier run did does not count for the
    rate.
    """

    def __init__(self, label: str):
        self._label, self._bar = label, None

    def __call__(self, done: int, total: int) -> None:
        """Episodes that are done, of how many."""
        if self._bar is None:
            self._bar = tqdm(
                desc=self._label, total=total, initial=done, unit="episode", smoothing=0, mininterval=0.5
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leaves the line as it is, if there is one."""
        if self._bar is not None:
            self._bar.close()
