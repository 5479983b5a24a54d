"""How long a run would take, asked in the background: the engine needs seconds to say so, and a page must not wait for it."""

import json
import threading
from collections.abc import Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import streamlit as st

from engine import queue

Plan = dict[str, Any]
_KEPT = 64


class Asker:
    """Asks two at a time and remembers the answers. A question that is no longer of interest is dropped before it starts."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="estimate")
        self._answers: dict[tuple[str, Hashable], Future[Plan]] = {}
        self._lock = threading.Lock()

    def ask(self, request: Mapping[str, Any], stamp: Hashable) -> Future[Plan]:
        """The answer, now or later. stamp: changes whenever something is stored, as then less has to be trained first."""
        key = (json.dumps(request, sort_keys=True), stamp)
        with self._lock:
            found = self._answers.get(key)
            if found is None or found.cancelled():
                found = self._answers[key] = self._pool.submit(queue.estimate, dict(request))
                while len(self._answers) > _KEPT:
                    self._answers.pop(next(iter(self._answers))).cancel()
        return found


@st.cache_resource(show_spinner=False)
def asker() -> Asker:
    return Asker()


def latest(request: Mapping[str, Any], stamp: Hashable) -> "Future[Plan]":
    """The estimate of what this visitor looks at now; what they looked at before is dropped unless it has begun."""
    found = asker().ask(request, stamp)
    before = st.session_state.get("estimate")
    if before is not None and before is not found:
        before.cancel()
    st.session_state["estimate"] = found
    return found
