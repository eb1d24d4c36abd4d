"""A progress bar over episodes."""

from contextlib import AbstractContextManager

from tqdm import tqdm


class ProgressBar(AbstractContextManager):
    """Opens at the first report, so that a refused job shows none. Episodes of an earlier run do not count for the rate."""

    def __init__(self, label: str):
        self._label = label
        self._bar: tqdm | None = None

    def __call__(self, done: int, total: int) -> None:
        """Reports that `done` of `total` episodes are finished."""
        if self._bar is None:
            self._bar = tqdm(
                desc=self._label, total=total, initial=done, unit="episode", smoothing=0, mininterval=0.5
            )
        self._bar.update(done - self._bar.n)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
