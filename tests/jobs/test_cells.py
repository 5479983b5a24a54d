"""Identity: the declared inputs and nothing else, whatever the order they come in."""

from dataclasses import replace

from engine.data.splits import DataSpec
from engine.jobs.cells import Cell, Numeric
from engine.jobs.study import make_cell
from engine.train import Recipe

BASE = make_cell(DataSpec("digits", "seeds", None, None, 0), "cnn", "msg", seed=0, recipe=Recipe(batch=64), params={"lr": 0.1}, numeric=Numeric())


def test_identity_survives_the_way_through_json_and_order() -> None:
    for cell in (BASE, replace(BASE, data=replace(BASE.data, forget_share=0.05))):
        assert Cell.from_content(cell.content).run_id == cell.run_id
    shuffled = replace(BASE, params=tuple(reversed(BASE.params)), recipe=tuple(reversed(BASE.recipe)))
    assert shuffled.run_id == BASE.run_id


def test_everything_that_numbers_depend_on_is_part_of_it() -> None:
    others = [
        replace(BASE, seed=1), replace(BASE, model="resnet18"), replace(BASE, variant="official"), replace(BASE, data=replace(BASE.data, pool=500)),
        replace(BASE, data=replace(BASE.data, forget=1)), replace(BASE, data=replace(BASE.data, split=0)),
        replace(BASE, data=replace(BASE.data, forget_share=0.05)), replace(BASE, numeric=Numeric("fast")), replace(BASE, numeric=Numeric(precision="bf16")),
        replace(BASE, numeric=Numeric(device="cuda")), replace(BASE, recipe=tuple((n, 51 if n == "epochs" else v) for n, v in BASE.recipe)),
        replace(BASE, params=tuple((n, 0.2 if n == "lr" else v) for n, v in BASE.params)),
        replace(BASE, versions=tuple((n, v + (n == "method")) for n, v in BASE.versions)),
        replace(BASE, versions=tuple((n, v + (n == "engine")) for n, v in BASE.versions)),
    ]
    assert len({BASE.run_id, *(o.run_id for o in others)}) == len(others) + 1


def test_references_do_not_depend_on_the_method() -> None:
    other = make_cell(BASE.data, "cnn", "ft", seed=0, recipe=Recipe(batch=64), numeric=Numeric())
    assert BASE.original.run_id == other.original.run_id and BASE.retrained.run_id == other.retrained.run_id
    assert BASE.content["parent"] == BASE.original.run_id


def test_in_u_lira_one_original_serves_all_forget_sets_of_a_split() -> None:
    specs = [DataSpec("digits", "u_lira", None, 3, j, share) for j, share in ((0, 0.1), (1, 0.05))]
    cells = [make_cell(data, "cnn", "ft", seed=3, recipe=Recipe(), numeric=Numeric("fast")) for data in specs]
    assert cells[0].original.run_id == cells[1].original.run_id
    assert cells[0].retrained.run_id != cells[1].retrained.run_id
