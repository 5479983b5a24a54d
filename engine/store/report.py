"""A report that stands alone: one HTML file about the attacks on one set of models, from the rows that the store keeps of them.

No script, no font, no picture from elsewhere: it can be mailed, printed and archived. Figures are inline SVG in the text's own colours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite, log10
from typing import Any

from duckdb import DuckDBPyConnection

from engine.errors import BadInput

Row = Mapping[str, Any]

CHANCE = 0.02  # how near to one half an interval must lie to be called chance, as in calibration
_DECIDES = "u_lira"
_REFERENCES = ("retrained", "original")
_NAMES = {"u_lira": "U-LiRA: forgotten against never seen", "exposure": "Exposure", "versus_retrained": "Unlearned against retrained",
          "lira": "LiRA (offline) on originals",
          "rmia": "RMIA on originals", "ruli": "RULI", "forgetting_quality": "Forgetting quality", "klom": "KLoM"}
_RATES = {"balanced_accuracy": "Balanced accuracy", "auc": "AUC", "tpr_at_fpr_0.1": "TPR at 10 % FPR", "tpr_at_fpr_0.01": "TPR at 1 % FPR",
          "tpr_at_fpr_0.001": "TPR at 0.1 % FPR"}
_EPSILON = ("epsilon_lower_bound", "epsilon_most")
_COLOURS = ("#3b5bdb", "#d55e00", "#009e73", "#9467bd", "#b8860b", "#6b7280")  # told apart under the common colour-vision types
_EXPOSED = 20
_BINS = 25


@dataclass(frozen=True)
class Evidence:
    """Rows of the tables of the same names, of the attacks that belong together. runs: one row an attack."""

    runs: Sequence[Row]
    metrics: Sequence[Row]
    roc: Sequence[Row]
    examples: Sequence[Row]
    calibration: Sequence[Row]


def evidence(db: DuckDBPyConnection, run_ids: Sequence[str]) -> Evidence:
    """What the results hold of these attacks. Raises: BadInput when one of them is not there."""
    def of(table: str, order: str) -> list[dict[str, Any]]:
        rows = db.execute(f"SELECT * FROM {table} WHERE list_contains(?, run_id) ORDER BY {order}", [list(run_ids)]).df()  # names from this file
        return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]

    runs = of("runs", "kind, method, attack")
    if missing := set(run_ids) - {row["run_id"] for row in runs}:
        raise BadInput(f"no stored run {', '.join(sorted(missing))}; `python -m engine ingest` takes in what has finished")
    return Evidence(runs, of("metrics", "name"), of("roc", "fpr"), of("examples", "example"), of("calibration", "name"))


def verdict(metrics: Mapping[str, Row], outcome: str, smallest_fpr: float | None = None) -> str:
    """What may be said of unlearned models, in plain words. metrics: by name, of U-LiRA on them. outcome: of the calibration."""
    found, shift = metrics.get("balanced_accuracy"), metrics.get("shift")
    if found is None:
        return "There are no unlearned models here to judge."
    value, lo, hi = (float(found[end]) for end in ("value", "lo", "hi"))
    said = f"balanced accuracy {value:.3f}, 95 % interval {lo:.3f} to {hi:.3f}; one half is guessing"
    if outcome == "failed":
        return f"Not to be believed: the attack fails its own checks on these models ({said})."
    trust = {"passed": "", "absent": " No retrained or original models came along, so whether the attack works here was not checked.",
             "too few models": " There are too few models to say whether the attack works here."}[outcome]
    if not (isfinite(lo) and isfinite(hi)):
        return f"There are too few models for an interval ({said}).{trust}"
    way = ""
    if shift is not None and abs(float(shift["value"])) >= 0.1:
        way = (" Forgotten examples score higher than never-seen ones: not forgotten enough." if float(shift["value"]) > 0 else
               " Forgotten examples score lower than never-seen ones: forgotten too much, which gives them away as well.")
    if lo >= 0.5 - CHANCE and hi <= 0.5 + CHANCE:
        return f"No trace was found: the attack cannot tell forgotten examples from ones that were never seen ({said}).{trust}"
    if lo > 0.5:
        return f"A trace remains: the attack tells forgotten examples from ones that were never seen ({said}).{way}{trust}"
    return f"Undecided: the interval holds both guessing and a leak worth naming ({said}). More splits would narrow it.{trust}"


def outcome_of(calibration: Iterable[Row]) -> str:
    """passed | failed | too few models | absent: of all checks together, the worst."""
    found = {str(row["outcome"]) for row in calibration}
    return next((worst for worst in ("failed", "too few models", "passed") if worst in found), "absent")


def html(title: str, found: Evidence, *, note: str = "") -> str:
    """The whole file. title: of what was judged, plain text. note: warnings, plain text."""
    by_run = {run["run_id"]: {row["name"]: row for row in found.metrics if row["run_id"] == run["run_id"]} for run in found.runs}
    judged = [run for run in found.runs if run["attack"] == _DECIDES and run["method"] not in _REFERENCES]
    outcome = outcome_of(found.calibration)
    lead = verdict(by_run[judged[0]["run_id"]] if judged else {}, outcome)
    curves = [(_named(run), [(row["fpr"], row["tpr"]) for row in found.roc if row["run_id"] == run["run_id"]]) for run in found.runs]
    examples = [row for row in found.examples if judged and row["run_id"] == judged[0]["run_id"] and _there(row["balanced_accuracy"])]
    listing = [run["run_id"] for run in found.runs if run["attack"] == "exposure" and run["method"] not in _REFERENCES]
    listed = [row for row in found.examples if row["run_id"] in listing]
    parts = [f"<h1>{escape(title)}</h1><p class=lead>{escape(lead)}</p>", f"<p class=note>{escape(note)}</p>" if note else "",
             "<h2>What each attack sees</h2>", _rates_table(found.runs, by_run), _other_table(found.runs, by_run),
             "<h2>ROC, on logarithmic axes</h2>", _roc([(name, points) for name, points in curves if points]),
             "<h2>Can the attack be believed here?</h2>", _calibration(found), "<h2>How it spreads over examples</h2>", _spread(examples),
             "<h2>The most exposed examples</h2>", _exposed(listed, examples), "<h2>Where this comes from</h2>", _provenance(found.runs), _READING]
    return (f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{escape(title)}</title>"
            f"<style>{_CSS}</style><main>{''.join(parts)}</main></html>\n")


# ---- parts


def _rates_table(runs: Sequence[Row], by_run: Mapping[str, Mapping[str, Row]]) -> str:
    rows = [[_named(run), *(_with_interval(by_run[run["run_id"]].get(name)) for name in _RATES),
             _with_interval(by_run[run["run_id"]].get("smallest_fpr"), "{:.2g}"), _bound(by_run[run["run_id"]])]
            for run in runs if "balanced_accuracy" in by_run[run["run_id"]]]
    return _table(["Attack", *_RATES.values(), "Smallest FPR it can tell", "Epsilon at least (so many splits can show)"], rows) + (
        "<p class=note>Rates that the number of models cannot support are left out, never extrapolated. Intervals draw whole splits.</p>")


def _bound(metrics: Mapping[str, Row]) -> str:
    """The lower bound on epsilon, and how large it can be with so many splits."""
    return "{:.2f} ({:.2f})".format(*(metrics[name]["value"] for name in _EPSILON)) if all(name in metrics for name in _EPSILON) else "–"


def _other_table(runs: Sequence[Row], by_run: Mapping[str, Mapping[str, Row]]) -> str:
    """Everything that does not stand in the table of rates."""
    rows = [[_named(run), str(name).replace("_", " "), _with_interval(row, "{:.4g}")] for run in runs for name, row in by_run[run["run_id"]].items()
            if name not in (*_RATES, "smallest_fpr", *_EPSILON) or "balanced_accuracy" not in by_run[run["run_id"]]]
    shown = _table(["Attack", "Number", "Value"], rows)
    return f"<details><summary>All other numbers</summary>{shown}</details>" if rows else ""


def _calibration(found: Evidence) -> str:
    if not found.calibration:
        return "<p>Not checked: it takes retrained models (which must come out at one half) and original models (which must not) in the same file.</p>"
    rows = [[escape(str(row["name"])).replace("_", " "), f"<b class={str(row['outcome']).replace(' ', '-')}>{escape(str(row['outcome']))}</b>",
             f"{row['value']:.3f} [{row['lo']:.3f}, {row['hi']:.3f}]", escape(str(row["bound"]))] for row in found.calibration]
    return _rows(["Check", "Outcome", "Measured", "Must be"], rows)


def _exposed(listed: Sequence[Row], examples: Sequence[Row]) -> str:
    """By what the other half of the splits says of those that one half chose; of an example that both chose, the mean."""
    if not listed:
        return "<p>Not listed: choosing on one half of the splits and reporting on the other takes more splits.</p>"
    known = {row["example"]: row for row in examples}
    by_example: dict[Any, list[Row]] = {}
    for row in listed:
        by_example.setdefault(row["example"], []).append(row)
    means = {example: [sum(row[name] for row in rows) / len(rows) for name in ("chosen", "balanced_accuracy")] for example, rows in by_example.items()}
    rows: list[list[str]] = []
    for example in sorted(means, key=lambda example: (-len(by_example[example]), -means[example][1]))[:_EXPOSED]:
        whole, label = known.get(example, {}), by_example[example][0]["label"]
        rows.append([str(example), f"{label:g}" if _there(label) else "–", "both" if len(by_example[example]) > 1 else "one",
                     *(f"{value:.3f}" for value in means[example]), *(f"{whole[name]:.2f}" if whole else "–" for name in ("mu_forgotten", "mu_never"))])
    return _table(["Example", "Class", "Chosen by", "Balanced accuracy where chosen", "On the other half", "Mean score, forgotten", "Mean score, never seen"],
                  rows) + "<p class=note>Chosen on one half of the splits, reported on the other: where an example was chosen, noise alone looks exposed.</p>"


def _provenance(runs: Sequence[Row]) -> str:
    first = runs[0]
    facts = {"Runs": ", ".join(str(run["run_id"]) for run in runs), "Started": first["started"], "Command": first["command"],
             "Commit": f"{first['commit']}{'' if first['clean'] else ', with uncommitted changes'}" if first.get("commit") else "not from a checkout",
             "Machine": first["machine"], "Versions": first["versions"], "Data": first.get("dataset") or first["study"]}
    return _table(["", ""], [[name, str(value)] for name, value in facts.items()])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return _rows(head, [[escape(cell) for cell in row] for row in rows])


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Of cells that are HTML already."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    top = "".join(f"<th>{escape(title)}</th>" for title in head)
    return f"<div class=wide><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _named(run: Row) -> str:
    name = _NAMES.get(str(run["attack"]), str(run["attack"]))
    return f"{name}, {run['method']} models" if run["method"] in _REFERENCES and run["attack"] in (_DECIDES, "exposure") else name


def _there(value: Any) -> bool:
    return value is not None and isfinite(value)


def _with_interval(row: Row | None, form: str = "{:.3f}") -> str:
    if row is None or not _there(row["value"]):
        return "–"
    ends = f" [{form.format(row['lo'])}, {form.format(row['hi'])}]" if _there(row["lo"]) and _there(row["hi"]) else ""
    return form.format(row["value"]) + ends


# ---- figures

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _RIGHT = 640, 380, 60, 48, 24


def _roc(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> str:
    """True- against false-positive rate, both logarithmic; the diagonal is guessing."""
    if not curves:
        return "<p>No attack here has a curve.</p>"
    low = min(min(fpr for fpr, _ in points) for _, points in curves)
    decades = max(1, min(6, round(-log10(max(low, 1e-6)) + 0.499)))

    def at(rate: float, length: int) -> float:
        return length * (1 + max(log10(max(rate, 1e-12)), -decades) / decades)

    across, up = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM - 10
    marks = "".join(_tick(f"{100 * 10.0**-d:g} %", at(10.0**-d, across), at(10.0**-d, up), across, up) for d in range(decades + 1))
    lines = f"<path class=guess d='M{_LEFT} {10 + up}L{_LEFT + across} 10'/>"
    legend = ""
    for colour, (name, points) in zip(_COLOURS * 3, curves, strict=False):
        path = "L".join(f"{_LEFT + at(fpr, across):.1f} {10 + up - at(tpr, up):.1f}" for fpr, tpr in points)
        lines += f"<path fill=none stroke='{colour}' stroke-width=2 d='M{path}'><title>{escape(name)}</title></path>"
        legend += f"<span><i style='background:{colour}'></i>{escape(name)}</span>"
    return _figure(marks + lines, "False-positive rate", "True-positive rate", "ROC curves of every attack; dashed: guessing", across, up) + (
        f"<p class=legend>{legend}<span><i class=dash></i>guessing</span></p>")


def _spread(examples: Sequence[Row]) -> str:
    """Histogram of balanced accuracy over examples."""
    if not examples:
        return "<p>No example was scored.</p>"
    counts = [0] * _BINS
    for row in examples:
        counts[min(int(row["balanced_accuracy"] * _BINS), _BINS - 1)] += 1
    across, up, most = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM - 10, max(counts)
    bars = "".join(f"<rect x='{_LEFT + i * across / _BINS + 1:.1f}' y='{10 + up - up * n / most:.1f}' width='{across / _BINS - 2:.1f}' "
                   f"height='{up * n / most:.1f}'><title>{i / _BINS:.2f} to {(i + 1) / _BINS:.2f}: {n}</title></rect>" for i, n in enumerate(counts))
    marks = "".join(_tick(f"{value:g}", value * across, None, across, up) for value in (0, 0.25, 0.5, 0.75, 1))
    marks += "".join(_tick(f"{round(share * most)}", None, share * up, across, up) for share in (0.5, 1))
    return _figure(bars + marks, "Balanced accuracy of the attack on one example", "Examples", "How many examples the attack tells how well", across, up)


def _tick(text: str, x: float | None, y: float | None, across: int, up: int) -> str:
    made = ""
    if x is not None:
        made += f"<path class=grid d='M{_LEFT + x:.1f} 10V{10 + up}'/><text x='{_LEFT + x:.1f}' y='{28 + up}' text-anchor=middle>{text}</text>"
    if y is not None:
        made += f"<path class=grid d='M{_LEFT} {10 + up - y:.1f}H{_LEFT + across}'/><text x='{_LEFT - 8}' y='{14 + up - y:.1f}' text-anchor=end>{text}</text>"
    return made


def _figure(body: str, x: str, y: str, about: str, across: int, up: int) -> str:
    titles = (f"<text x='{_LEFT + across / 2}' y='{_HEIGHT - 6}' text-anchor=middle>{x}</text>"
              f"<text transform='rotate(-90)' x='{-10 - up / 2}' y='14' text-anchor=middle>{y}</text>")
    return f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img aria-label='{escape(about)}'>{body}{titles}</svg>"


_READING = """<h2>How to read it</h2><ul>
<li><b>Balanced accuracy</b>: how often the attack is right when half of what it is shown was forgotten. One half is guessing. An accuracy below one half
leaks as well: who knows that the attack is wrong can turn its answer round.</li>
<li><b>TPR at a low FPR</b>: how many forgotten examples are found when almost nobody is accused wrongly. Chance equals the FPR.</li>
<li><b>Epsilon</b>: at least so large (95 %, delta 1e-5) is the epsilon of any promise that forgotten and never-seen examples cannot be told apart. 0 shows
nothing. In brackets what a perfect attack on as many splits could show: the bound is about the number of splits as well.</li>
<li><b>Intervals</b> are over splits (sets of models that share training data), the only independent unit here: thousands of examples share a model.</li>
<li><b>"No trace found"</b> is a statement about this attack and these models. A stronger attack, or more models, may find one.</li></ul>"""

_CSS = """:root{color-scheme:light dark}body{margin:0;font:16px/1.5 system-ui,sans-serif}main{max-width:60rem;margin:0 auto;padding:1.5rem}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}.lead{font-size:1.1rem}.note{opacity:.75;font-size:.9rem}.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem}th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}
td:first-child{min-width:6rem}
td{font-variant-numeric:tabular-nums;overflow-wrap:anywhere}svg{width:100%;max-width:46rem;height:auto}svg text{fill:currentColor;font-size:12px}
svg rect{fill:#3b5bdb}.grid{stroke:#8883}.guess{stroke:currentColor;stroke-dasharray:5 4;fill:none}.legend span{margin-right:1.2rem;white-space:nowrap}
.legend i{display:inline-block;width:1.4em;height:.3em;margin-right:.4em;vertical-align:middle}.dash{border-top:2px dashed}
.passed{color:#2f7d32}.failed{color:#c0392b}.too-few-models{color:#a06a00}@media print{details{display:none}}"""
