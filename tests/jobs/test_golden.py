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
    "train engine=2 recipe=1 model=2": 944.8974222247905,
    "bt engine=2 method=1": 1618.4159254592669,
    "cf_k engine=2 method=1": 952.1640054725952,
    "cfw engine=2 method=1": 1001.0805982428766,
    "cfw/official engine=2 method=1": 11267.079638366667,
    "ct engine=2 method=1": 945.0251202794215,
    "eu_k engine=2 method=1": 1370.1646865124335,
    "eu_k/official engine=2 method=1": 1370.1954161355518,
    "fcs engine=2 method=1": 944.5860776326908,
    "ff engine=2 method=1": 960.836634693718,
    "ff/official engine=2 method=1": 227371.5013299254,
    "ft engine=2 method=1": 1332.9232642319528,
    "ga engine=2 method=1": 944.2847416492752,
    "iu engine=2 method=1": 944.9186468284494,
    "iu/official engine=2 method=1": 944.8378979967285,
    "kde engine=2 method=1": 931.1745774363906,
    "kde/official engine=2 method=1": 931.2284562992303,
    "msg engine=2 method=1": 1070.9796365133918,
    "msg/official engine=2 method=1": 1067.752674035401,
    "ng_plus engine=2 method=1": 1018.0076618902124,
    "prmq engine=2 method=1": 921.043340086937,
    "rni engine=2 method=1": 930.6860272273001,
    "rni/official engine=2 method=1": 930.6860272273001,
    "salun engine=2 method=1": 946.1201692151272,
    "salun/official engine=2 method=1": 946.0996213192001,
    "scrub engine=2 method=1": 945.1158338701806,
    "scrub/official engine=2 method=1": 945.1200376047975,
    "srl engine=2 method=1": 1563.98630899348,
}


def measured() -> dict[str, float]:
    stack = toy_model(precision="fp64")
    found = {f"train engine={ENGINE_VERSION} recipe={RECIPE_VERSION} model={stack.architecture.version}": float(stack.flat().abs().sum())}
    for name, m in registry.load().items():
        if name == "bt/official":
            continue  # its ResNet-18 takes no digits
        found[f"{name} engine={ENGINE_VERSION} method={m.version}"] = float(unlearn(m, stack, [0], [quick(m)]).flat().abs().sum())
    return found


def test_numbers_move_only_with_a_version() -> None:
    assert measured() == pytest.approx(GOLDEN, rel=1e-9)


if __name__ == "__main__":
    for what, value in measured().items():
        print(f'    "{what}": {value!r},')
