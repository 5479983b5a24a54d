"""Study files: all faults at once, before any training; expanded into the cells they ask for."""

from collections import Counter
from pathlib import Path

import pytest

from engine.errors import BadInput
from engine.jobs import plan, study
from engine.jobs.cells import Cell

ROOT = Path(__file__).resolve().parents[2]
BAD = """
name: "bad name!"
data: {dataset: digitss, pool: 3, colour: red, forget_share: 2}
model: cn
recipe: {epochs: 0}
seeds: {count: -1, mode: exactly, vary: moon}
u_lira: {splits: many}
methods:
  ft: {set: {lr: 99, nonsense: 1}}
  ftt: {}
extra: 1
"""


@pytest.mark.parametrize("path", sorted((ROOT / "data" / "studies").rglob("*.yaml")), ids=lambda p: p.stem)
def test_studies_that_ship_are_valid(path: Path) -> None:
    assert study.read(path)[0].name


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD)
    with pytest.raises(BadInput) as caught:
        study.read(tmp_path / "bad.yaml")
    text = str(caught.value)
    for fault in ("name: got 'bad name!'", "data.colour: not known", "did you mean 'digits'?", "did you mean 'cnn'?", "data.pool: got 3",
                  "data.forget_share: got 2", "seeds.vary: got 'moon'", "seeds.count: got -1", "seeds.mode: got 'exactly'", "u_lira.splits: got 'many'",
                  "ft.lr: got 99", "no parameter 'nonsense'", "did you mean 'ft'?", "extra: not known"):
        assert fault in text, fault


@pytest.mark.parametrize("content", ["- a\n- b", "a: [", "\x00"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(BadInput, match=r"must be a mapping|is not YAML"):
        study.read(tmp_path / "s.yaml")
    with pytest.raises(BadInput, match="cannot be read"):
        study.read(tmp_path / "none.yaml")


def test_forget_share_and_varied_splits_reach_the_cells(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("""
name: varied
data: {dataset: digits, pool: 300, forget_share: 0.05}
model: cnn
seeds: {count: 2, vary: split}
u_lira: {splits: 1}
methods: {ft: {}}
""")
    made, = study.read(tmp_path / "s.yaml")
    cells = [cell for _, cell in made.models({"ft": {}})]
    assert {c.data.split for c in cells if c.data.protocol == "seeds" and c.seed == 1} == {1}
    assert made.forget_sets == 20 and {c.data.forget_share for c in cells if c.data.forget is not None} == {0.05}
    assert next(c for c in cells if c.data.forget is None).run_id == next(c.original for c in cells if c.key == "ft" and c.data.protocol == "u_lira").run_id


def test_parts_replace_sections_and_all_their_faults_are_told_at_once(tmp_path: Path) -> None:
    text = """
name: both
data: {dataset: digits, pool: 300}
model: cnn
seeds: {count: 1}
methods: {ft: {}}
parts:
  - {name: small}
  - {name: large, data: {dataset: digits@32, pool: 100}, model: resnet18, recipe: {epochs: 1}}
"""
    path = tmp_path / "s.yaml"
    path.write_text(text)
    small, large = study.read(path)
    assert (small.name, small.dataset, small.model, small.pool) == ("both-small", "digits", "cnn", 300)
    assert (large.name, large.dataset, large.model, large.pool, large.recipe.epochs) == ("both-large", "digits@32", "resnet18", 100, 1)
    path.write_text(text.replace("model: resnet18", "model: resnet81").replace("- {name: small}", "- {name: small, seeds: {count: -1}}"))
    with pytest.raises(BadInput) as caught:
        study.read(path)
    assert "part small: seeds.count" in str(caught.value) and "part large: model" in str(caught.value)


def first_asked(checked: study.Study) -> list[Cell]:
    """What its searches ask for first: of grids all."""
    return [checked.asked(method, ask) for method, search in checked.searches().items() for ask in next(search)]


def test_the_embedded_study_asks_for_what_it_says() -> None:
    embedded, = study.read(ROOT / "data" / "studies" / "embedded.yaml")
    chosen = {method: sought.candidates[0] for method, sought in embedded.sought.items()}
    assert set(chosen) == {"ft", "ga", "ng_plus", "srl", "ct", "msg"}
    counted = Counter((role, cell.method) for role, cell in embedded.models(chosen))
    assert counted["seeds", "msg"] == 10 and counted["u_lira", "original"] == 64
    assert counted["u_lira", "retrained"] == counted["u_lira", "ct"] == 64 * embedded.forget_sets
    assert embedded.forget_sets * 64 / 20 >= 16  # expected forgotten values an example: half the splits, a tenth of it each
    attacked = {cell.data.split for role, cell in embedded.models(chosen) if role == "u_lira"}
    assert not attacked & {cell.data.split for cell in first_asked(embedded)}


def test_exact_moves_every_protocol_to_the_loop() -> None:
    exact, = study.read(ROOT / "data" / "studies" / "embedded.yaml", exact=True)
    assert {n.mode for n in exact.numerics.values()} == {"exact"}


def test_stacks_hold_cells_of_one_shape_sorted_by_epochs() -> None:
    embedded, = study.read(ROOT / "data" / "studies" / "embedded.yaml")
    cells = first_asked(embedded)
    made = plan.tasks(cells, lambda cell: plan.Strategy("fused", 8), slots=2)
    assert sorted(c.run_id for t in made for c in t.cells) == sorted({c.run_id for c in cells})
    for task in made:
        assert len(task.cells) <= 8 and len({plan.stack_key(c) for c in task.cells}) == 1
        epochs = [dict(c.params)["epochs"] for c in task.cells]
        assert epochs == sorted(epochs)
    assert [t.work for t in made] == sorted((t.work for t in made), reverse=True)
