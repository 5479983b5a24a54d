"""Small golden results: they fail when numbers move, so that nobody moves them without raising a version.

When a change means to move them: raise the version of what changed (method, recipe, model, data or ENGINE_VERSION in
`engine/jobs/cells.py`), run `python -m tests.jobs.test_golden`, and put what it prints here.
"""

import pytest

from engine import registry
from engine.jobs.cells import ENGINE_VERSION
from engine.train import RECIPE_VERSION
from tests.unlearn.test_contract import quick, toy_model, unlearn

# (what, versions) -> sum of |weights| in double precision
GOLDEN: dict[str, float] = {
    "train engine=2 recipe=1 model=2": 944.8974222247903,
    "ct engine=2 method=1": 945.0251202794216,
    "ft engine=2 method=1": 1332.9232642319528,
    "ga engine=2 method=1": 944.2847416492752,
    "msg engine=2 method=1": 1070.9796365133918,
    "ng_plus engine=2 method=1": 1018.0076618902124,
    "srl engine=2 method=1": 1563.98630899348,
}


def measured() -> dict[str, float]:
    stack = toy_model(precision="fp64")
    found = {f"train engine={ENGINE_VERSION} recipe={RECIPE_VERSION} model={stack.architecture.version}": float(stack.flat().abs().sum())}
    for name, m in registry.load().items():
        found[f"{name} engine={ENGINE_VERSION} method={m.version}"] = float(unlearn(m, stack, [0], [quick(m)]).flat().abs().sum())
    return found


def test_numbers_move_only_with_a_version() -> None:
    assert measured() == pytest.approx(GOLDEN, rel=1e-9)


if __name__ == "__main__":
    for what, value in measured().items():
        print(f'    "{what}": {value!r},')
