"""Ending when asked, not in the middle of a step."""

import signal


class StopSignals:
    """Remembers SIGTERM or SIGINT instead of dying of it, so that the step at hand is finished and saved."""

    def __enter__(self):
        self.received = ""
        self._old = {s: signal.signal(s, self._remember) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _remember(self, number, _):
        self.received = signal.Signals(number).name

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)
