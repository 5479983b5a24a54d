"""Progress on the terminal: one line on standard error with rate and time left; plain lines where it is no terminal."""

import sys
import time
from collections.abc import Callable

Told = Callable[[str, float, float, str, float | None, float | None], None]  # phase, done, total, unit, units a second, seconds left


class Progress:
    """Of one phase. total: work units of the phase, 0 where that is not known; unit: what they are. also: told the same."""

    def __init__(self, phase: str, total: int | float, unit: str, also: Told | None = None, quiet: bool = False) -> None:
        self.phase, self.total, self.unit, self.also, self.quiet = phase, total, unit, also, quiet
        self._start, self._shown = time.monotonic(), -10.0

    def show(self, done: int | float, tasks_done: int = 0, tasks: int = 0) -> None:
        """Draw, at most twice a second, in a log every 15 s; always at the end."""
        now = time.monotonic()
        finished = 0 < self.total <= done
        terminal = sys.stderr.isatty()
        if not finished and now - self._shown < (0.5 if terminal or self.quiet else 15):
            return
        self._shown = now
        rate = done / (now - self._start) if done and now > self._start else None
        eta = (self.total - done) / rate if rate and self.total else None
        if self.also is not None:
            self.also(self.phase, done, self.total, self.unit, rate, eta)
        if self.quiet:
            return
        parts = [f"{self.phase}: {done / self.total:4.0%}" if self.total else self.phase]
        if tasks:
            parts.append(f"{tasks_done}/{tasks} tasks")
        if rate:
            parts.append(f"{_short(rate)} {self.unit}/s")
        parts.append(f"{now - self._start:.0f} s" if finished else f"{_clock(eta)} left" if eta is not None else "…")
        line = " · ".join(parts)
        print(f"\r{line:<90}" if terminal else line, end="\n" if finished or not terminal else "", file=sys.stderr, flush=True)


def _short(value: float) -> str:
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.1f}"


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
