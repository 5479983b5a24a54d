"""What holds for every method, found by the registry: seeds, purity, data access, parameters that act, bad values refused."""

import dataclasses
from functools import cache
from operator import attrgetter

import pytest
import torch

from engine import registry
from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.errors import BadInput, DataError
from engine.models.catalogue import ARCHITECTURES
from engine.models.stack import Stack
from engine.params import Params
from engine.registry import Method
from engine.runtime import PerReplica, Rng, Run
from engine.train import Recipe, train

METHODS = list(registry.load().values())
SPEC = DataSpec("digits", "seeds", pool=200, forget=0)
DETERMINISTIC = {"iu/official"}  # draws nothing
SELECTING = {"msg", "prmq", "salun", "ct", "rni"}
every_method = pytest.mark.parametrize("m", METHODS, ids=attrgetter("key"))


def toy_model(replicas: int = 1, executor: str = "loop", precision: str = "fp32") -> Stack:
    """Trained for three epochs on 170 digits, so that methods find something to undo; a fresh copy whose counters start at zero."""
    return trained(replicas, executor, precision).copy()


@cache
def trained(replicas: int, executor: str, precision: str) -> Stack:
    stack = Stack.build(ARCHITECTURES["cnn"], channels=1, classes=10, side=8, seeds=range(replicas), executor=executor, precision=precision)
    data = Splits.of([SPEC] * replicas, dtype=torch.float64 if precision == "fp64" else torch.float32)
    return train(stack, data, "train", Recipe(epochs=3, batch=32), Run(Rng(range(replicas))))


def quick(m: Method, **changes: object) -> Params:
    """The defaults with two epochs of small batches (smaller than forget, so that their size matters)."""
    names = [f.name for f in dataclasses.fields(m.params)]
    small = {n: 2 for n in names if "epochs" in n} | {n: 8 for n in names if "batch" in n or n == "samples"} | {n: False for n in names if n == "rewind"}
    return m.params.from_dict(small | {n: v for n, v in changes.items() if n in names}, m.name)


def unlearn(m: Method, stack: Stack, seeds: list[int], params: list[Params], reads: frozenset[str] | None = None) -> Stack:
    """Skips a method that takes no such images."""
    dtype = torch.float64 if stack.precision == "fp64" else torch.float32
    data = Splits.of([SPEC] * stack.replicas, dtype=dtype).restricted(m.reads if reads is None else reads)
    try:
        return m.run(stack, data, PerReplica(params), Run(Rng(seeds)))
    except DataError as error:
        if "not declared" in str(error):
            raise
        pytest.skip(str(error))


def same(a: Stack, b: Stack) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state().values(), b.state().values(), strict=True))


@every_method
def test_all_chance_comes_from_the_seed_and_something_happens(m: Method) -> None:
    before = toy_model()
    kept = before.state()
    torch.manual_seed(1)
    once = unlearn(m, before, [0], [quick(m)])
    torch.manual_seed(2)
    again, other = unlearn(m, before, [0], [quick(m)]), unlearn(m, before, [1], [quick(m)])
    assert same(once, again) and same(once, other) == (m.key in DETERMINISTIC)
    assert not same(once, before) and bool(once.finite().all())
    assert all(torch.equal(kept[n], t) for n, t in before.state().items()), "the model it was given was changed"


@every_method
def test_a_replica_gets_the_same_bits_alone_and_in_a_stack(m: Method) -> None:
    stack = toy_model(replicas=3)
    params = [quick(m, epochs=e) for e in (1, 3, 2)]
    together = unlearn(m, stack, [7, 8, 9], params)
    alone = unlearn(m, stack.like([stack.state_of(2)]), [9], [params[2]])
    for key, value in alone.state_of(0).items():
        assert torch.equal(value, together.state_of(2)[key]), key
    assert together.forward_images[2] == alone.forward_images[0]


@every_method
def test_fused_equals_loop_in_float64(m: Method) -> None:
    made = {}
    loop = toy_model(replicas=3, precision="fp64")
    for executor in ("loop", "fused"):
        stack = Stack(loop.architecture, loop.template, [loop.state_of(r) for r in range(3)], executor=executor, precision="fp64")
        made[executor] = unlearn(m, stack, [7, 8, 9], [quick(m, epochs=e) for e in (1, 2, 1)])
    for key, value in made["loop"].state().items():
        torch.testing.assert_close(made["fused"].state()[key], value, rtol=0, atol=1e-7, msg=lambda t, k=key: f"{k}: {t}")


@every_method
def test_each_hyper_parameter_changes_the_result(m: Method) -> None:
    before = toy_model()
    base = quick(m)
    reference = unlearn(m, before, [0], [base])
    for name, kind, note in m.params.declared():
        if note.inert:
            continue
        value = getattr(base, name)
        low, high = note.within or (0, 1)
        if kind is bool or note.choices:
            other: object = next(v for v in note.choices or (True, False) if v != value)
        elif kind is int:
            other = value + 1 if value < high else value - 1
        else:
            other = (value + low) / 2 if value else (value + high) / 2
        changed = unlearn(m, before, [0], [dataclasses.replace(base, **{name: other})])  # type: ignore[arg-type]
        assert not same(reference, changed), f"{m.name}.{name}: {value} and {other} give the same model"


@every_method
def test_methods_that_select_weights_tell_which(m: Method) -> None:
    heard: list[dict[str, torch.Tensor]] = []
    stack = toy_model(replicas=2)
    data = Splits.of([SPEC] * 2).restricted(m.reads)
    if m.key == "bt/official":
        pytest.skip("takes no such images")
    m.run(stack, data, PerReplica([quick(m, epochs=4)] * 2), Run(Rng([0, 1]), selected=lambda mask: heard.append(dict(mask))))
    assert bool(heard) == (m.name in SELECTING)
    for mask in heard:
        assert all(chosen.shape == stack.params[name].shape for name, chosen in mask.items())
        assert any(bool(chosen.any()) for chosen in mask.values()) or m.name == "rni"


@every_method
def test_only_declared_splits_are_read(m: Method) -> None:
    for split in m.reads:
        with pytest.raises(DataError, match="not declared"):
            unlearn(m, toy_model(), [0], [quick(m, rewind=True)], reads=m.reads - {split})


@every_method
def test_values_out_of_range_are_refused_all_at_once(m: Method) -> None:
    bad = {name: note.within[1] * 2 + 1 for name, kind, note in m.params.declared() if note.within}
    with pytest.raises(BadInput) as caught:
        m.params.from_dict(bad | {"nonsense": 1}, m.name)
    for name in [*bad, "nonsense"]:
        assert name in str(caught.value)


@every_method
def test_describes_itself(m: Method) -> None:
    assert m.doc and m.label and m.paper.startswith("arXiv:")
    for row in m.params.describe():
        assert row["doc"] and row["type"] in ("float", "int", "bool", "choice")
