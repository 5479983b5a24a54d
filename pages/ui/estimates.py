"""How long a run would take, asked in the background."""

from collections.abc import Hashable, Mapping
from concurrent.futures import Future
from typing import Any

import streamlit as st

from engine import queue
from pages.ui.asker import Asker

Plan = dict[str, Any]


@st.cache_resource(show_spinner=False)
def asker() -> Asker[Plan]:
    known = devices()

    def answer(request: Plan) -> Plan:
        plan = queue.estimate(request)
        known.update(plan.get("devices", []))
        return plan

    return Asker(answer)


@st.cache_resource(show_spinner=False)
def devices() -> set[str]:
    """What this machine can compute on, as far as the engine has told yet: cpu, cuda."""
    return set()


def latest(request: Mapping[str, Any], stamp: Hashable) -> "Future[Plan]":
    """The estimate of what this visitor looks at now; what they looked at before is dropped unless it has begun.

    stamp: changes whenever something is stored, as then less has to be trained first.
    """
    found = asker().ask(request, stamp)
    before = st.session_state.get("estimate")
    if before is not None and before is not found:
        before.cancel()
    st.session_state["estimate"] = found
    return found
