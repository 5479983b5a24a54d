"""What of a retrained model is recorded with the original of its seed is told as the retrained model's own."""

from dataclasses import replace
from pathlib import Path

from engine.store import ingest, queries, reader, records
from tests.store.conftest import Make


def test_numbers_of_retrained_models_come_from_the_original_of_their_seed_and_split(home: Path, record: Make) -> None:
    members = []
    for kind, seed, split in [(kind, seed, split) for kind in ("retrained", "original", "unlearned") for seed, split in ((0, None), (1, 7))]:
        run_id = f"{kind}-{seed}"
        numbers = {"test_accuracy": 0.9, **({} if kind == "retrained" else {"relearn_epochs": 0.0 if kind == "original" else 3.0 + seed})}
        if kind == "original":
            numbers["retrained/relearn_epochs"] = 5.0 + seed
        made = record(run_id, kind=kind, method="ft" if kind == "unlearned" else kind, variant="corrected", seed=seed, split=split)
        rows = [{"run_id": run_id, "name": name, "value": value} for name, value in numbers.items()]
        records.write(home, replace(made, tables={"runs": made.tables["runs"], "metrics": rows}))
        members.append({"run_id": "study", "member": run_id, "role": "seeds", "method": "ft" if kind == "unlearned" else kind})
    twin = record("twin", kind="retrained", method="retrained", variant="corrected", seed=9, split=7)
    records.write(home, twin)
    study = record("study", kind="study", method="study", seed=None)
    records.write(home, replace(study, tables={"runs": study.tables["runs"], "members": [*members, {**members[0], "member": "twin", "role": "twin"}],
                                               "studies": [{"run_id": "study", "name": "s", "title": "s", "content": "name: s\n"}]}))
    assert not ingest.ingest(home).refused
    with reader.open_results(None, home) as db:
        found = queries.seed_runs(db, study="study").set_index("run_id")["relearn_epochs"]
        assert found.to_dict() == {"retrained-0": 5, "retrained-1": 6, "original-0": 0, "original-1": 0, "unlearned-0": 3, "unlearned-1": 4}
        means = queries.results(db, study="study").set_index("method")
        assert means["relearn_epochs"].to_dict() == {"retrained": 5.5, "original": 0, "ft": 3.5} and set(means["test_accuracy"]) == {0.9}
