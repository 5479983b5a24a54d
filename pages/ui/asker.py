"""Questions that only the engine can answer, asked in the background: it needs seconds to start, and a page must not wait for it."""

import json
import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

_KEPT = 64

Answer = TypeVar("Answer")


class Asker(Generic[Answer]):
    """Asks two at a time and remembers the answers. A question that is no longer of interest is dropped before it starts."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self._answer = answer
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="asker")
        self._answers: dict[tuple[str, Hashable], Future[Answer]] = {}
        self._lock = threading.Lock()

    def ask(self, request: Mapping[str, Any], stamp: Hashable) -> Future[Answer]:
        """The answer, now or later. stamp: another one asks anew."""
        key = (json.dumps(request, sort_keys=True), stamp)
        with self._lock:
            found = self._answers.get(key)
            if found is None or found.cancelled():
                found = self._answers[key] = self._pool.submit(self._answer, dict(request))
                while len(self._answers) > _KEPT:
                    self._answers.pop(next(iter(self._answers))).cancel()
        return found
