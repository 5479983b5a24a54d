"""A sweep of one parameter: the form that asks for it, and what came of it."""

from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd
import streamlit as st

from pages.ui import charts, export, formats, page, response, setting
from pages.ui.formats import Rows
from pages.ui.response import Level, Point
from pages.ui.theme import Style, look

FEWEST, MOST = 3, 9
METRICS = ("test_accuracy", "forget_accuracy", "mia_test", "balanced_accuracy", "retention_deviation", "image_passes")
FIRST = ("test_accuracy", "forget_accuracy", "mia_test")
_ABREAST = 3
_URL = "sweep"
_WIDTHS = {"State": 85, "Run": 150}


def varied(method: Mapping[str, Any]) -> str | None:
    """The parameter that is chosen to vary, also by the URL; None where a single run is asked for. Before the form is drawn."""
    name, _, span = st.query_params.get(_URL, "").partition("=")
    known = {param["name"]: param for param in method["params"] if param["type"] in setting.KINDS}
    key = f"{_URL}-{method['name']}"
    if name in known and (key not in st.session_state or st.session_state.get(f"{_URL}-read") != (method["name"], name, span)):
        st.session_state[key] = name  # a link, not what was written here
        _fill(method, known[name], span)
    return st.session_state.get(key)


def form(method: Mapping[str, Any]) -> str | None:
    """Which parameter varies and over what; as the engine takes it, such as `lr=0.001:0.1:5`. None: a single run."""
    known = {param["name"]: param for param in method["params"] if param["type"] in setting.KINDS}
    name = st.selectbox("Vary one parameter", list(known), index=None, placeholder="None: a single run", key=f"{_URL}-{method['name']}",
                        help="One run for each of several values of it, everything else as it is, from the same original model.")
    text = None if name is None else f"{name}={_span(method, known[name])}"
    if text:
        st.query_params[_URL] = text
        st.session_state[f"{_URL}-read"] = (method["name"], *text.split("=", 1))
    else:
        forget()
    return text


def fill(method: Mapping[str, Any], text: str | None) -> None:
    """Set the form to a sweep that was asked for, or to none."""
    forget()
    st.session_state.pop(f"{_URL}-{method['name']}", None)
    if text:
        st.query_params[_URL] = text


def forget() -> None:
    """A link to the page then asks for a single run."""
    st.query_params.pop(_URL, None)
    st.session_state.pop(f"{_URL}-read", None)


def words(text: str) -> str:
    """A sweep in words: `lr from 0.001 to 0.1`, `reset = smallest, random`."""
    name, _, span = text.partition("=")
    ends = span.split(":")
    return f"{name} from {ends[0]} to {ends[1]}" if len(ends) == 3 else f"{name} = {', '.join(map(_shortened, span.split(',')))}"


def told(found: Mapping[str, Any]) -> str:
    """The outcome in a sentence or two: how far the parameter moves accuracies, and how that compares with retraining."""
    swept, points = found["sweep"], found["points"]
    whole = [point for point in points if point["metrics"]]
    lost = len(points) - len(whole)
    failed = f" {'All' if not whole else formats.number(lost, 'count')} of {formats.counted(len(points), 'value')} diverged." if lost else ""
    if not whole:
        return f"{failed.strip()} Try smaller values."
    parts = []
    for metric, name in (("test_accuracy", "test accuracy"), ("forget_accuracy", "forget accuracy")):
        values = sorted((point["metrics"][metric], point["value"]) for point in whole if metric in point["metrics"])
        if not values:
            continue
        own = found["references"].get("retrained", {}).get(metric)
        (low, at_low), (high, at_high) = values[0], values[-1]
        span = (f"{name} is {formats.number(low, 'share')} throughout" if low == high else
                f"{name} runs from {formats.number(low, 'share')} ({swept['name']} = {formats.plain(at_low)}) "
                f"to {formats.number(high, 'share')} ({formats.plain(at_high)})")
        parts.append(span + (f"; retraining has {formats.number(own, 'share')}" if own is not None else ""))
    return f"{formats.sentence('. '.join(map(formats.sentence, parts)))}.{failed}"


def result(view: page.View, name: str, found: dict[str, Any], seeds: Rows, study: Rows) -> None:
    """A finished sweep: each chosen metric against the parameter, beside retrained, original and the study. name: of its files."""
    theirs = setting.of_study(study, found["method"], found["variant"])
    offered = [metric for metric in METRICS if any(not isnan(point.y) for point in _points(found, metric))]
    if offered:
        chosen = st.pills("Metrics", offered, selection_mode="multi", default=[metric for metric in FIRST if metric in offered],
                          format_func=lambda metric: formats.METRICS[metric].label, key=f"{_URL}-metrics", label_visibility="collapsed")
        _panels(view, name, found, seeds, study, theirs, chosen or offered[:1])
    else:
        st.error("**Every value diverged.** Each is recorded as a failure. Try smaller values, or fewer epochs.", icon=":material/error:")
    table = _table(view, found, seeds, study, offered)
    st.dataframe(table, hide_index=True, height="content", key=f"{_URL}-table", alt="Every value of the parameter with its metrics, and the references",
                 column_config={column: st.column_config.TextColumn(width=_WIDTHS.get(column), alignment="left" if column in _WIDTHS else "right")
                                for column in table.columns[1:]})
    full = [{found["sweep"]["name"]: point["value"], "run_id": point["run_id"], "status": point["status"], **point["metrics"]} for point in found["points"]]
    export.table(name, pd.DataFrame(full), table,
                 caption=f"Every value of {found['sweep']['name']}, one model each, and the references with their ranges.")
    stored = sum(point["reused"] for point in found["points"])
    st.caption("One model a value: differences smaller than the range over seeds say nothing. Each value is an ordinary run in the results"
               + (f"; {stored} of {len(found['points'])} were stored already." if stored else "."))


def courses(view: page.View, points: Rows, parameter: str) -> None:
    """What the runs logged by epoch, a panel a quantity and a line a value."""
    names = list(dict.fromkeys(point["name"] for point in points))
    for at in range(0, len(names), 2):
        for column, name in zip(st.columns(2) if len(names) > 1 else [st.container()], names[at:at + 2], strict=False):
            with column:
                drawn = [point for point in points if point["name"] == name]
                page.chart(response.courses(drawn, view.style, parameter=parameter), view.style, f"{name} by epoch, a line for each value of {parameter}")


def _panels(view: page.View, name: str, found: dict[str, Any], seeds: Rows, study: Rows, theirs: setting.Params | None, metrics: list[str]) -> None:
    swept = found["sweep"]
    at = (theirs or {}).get(swept["name"])
    same = theirs is not None and {**theirs, swept["name"]: None} == {**found["params"], swept["name"]: None}
    colour = look(view.looks, found["method"]).colour

    def drawn(metric: str, style: Style, size: tuple[int, int]) -> charts.Spec:
        own = _level(f"{found['method']}, study", metric, found["method"], seeds, study, {}, found["variant"]) if same else None
        return response.response(_points(found, metric), _levels(found, metric, seeds, study), style, metric, parameter=swept["name"], log=swept["log"],
                                 colour=colour, study=at, theirs=own, size=size)

    for start in range(0, len(metrics), _ABREAST):
        for column, metric in zip(st.columns(_ABREAST if len(metrics) > 1 else 1), metrics[start:start + _ABREAST], strict=False):
            with column:
                points = _points(found, metric)
                alt = f"{formats.METRICS[metric].label} by {swept['name']}: " + ", ".join(
                    f"{formats.plain(p.x)}: {response.told(p, metric)}" for p in points)
                page.chart(drawn(metric, view.style, (300, 220)), view.style, alt)
    notes = ["Lines: retrained and original (dotted), shaded by their range over the study's seeds" if seeds else
             "Lines: the retrained and the original (dotted) model of the same seed", "crosses: diverged"]
    if at is not None:
        notes.append(f"dashed: the study's {swept['name']}" + (", and hollow what it found there" if same else "; its other settings differ from these"))
    st.caption(f"{'; '.join(notes)}.")
    named = look(view.looks, found["method"]).title(found["variant"])
    caption = (f"{', '.join(formats.METRICS[metric].axis for metric in metrics)} of {named} on {view.named(found['dataset'], found['model'])} by "
               f"{swept['name']}, everything else the same ({formats.settings(found['params'])}); one model a value, seed {found['seed']}. {'; '.join(notes)}.")
    export.figure(name, lambda style, width, below: charts.beside([drawn(metric, style, (round(width), round(0.75 * width))) for metric in metrics],
                                                                  below=below), panels=len(metrics), caption=caption)


def _points(found: Mapping[str, Any], metric: str) -> list[Point]:
    """The values that have this metric, and those that diverged. Of one that the attack cannot judge there is nothing to show."""
    made: list[Point] = []
    for point in found["points"]:
        scored = point.get("u_lira", {}).get(metric) if metric == "balanced_accuracy" else {"value": point["metrics"].get(metric)}
        if not point["metrics"]:
            made.append(Point(point["value"], float("nan"), point["run_id"]))
        elif scored and scored["value"] is not None:
            made.append(Point(point["value"], scored["value"], point["run_id"], scored.get("lo", float("nan")), scored.get("hi", float("nan"))))
    return made


def _levels(found: Mapping[str, Any], metric: str, seeds: Rows, study: Rows) -> list[Level]:
    """The references: of the study with the range over its seeds, else the models of the same seed. An original costs what training costs."""
    kinds = ["retrained"] if metric == "image_passes" else ["retrained", "original"]
    made = (_level(kind, metric, kind, seeds, study, found["references"]) for kind in kinds)
    return [level for level in made if level is not None]


def _level(name: str, metric: str, method: str, seeds: Rows, study: Rows, alone: Mapping[str, Any], variant: str = "corrected") -> Level | None:
    """Mean and range over the study's seeds; of an attack its estimate and interval. alone: single models by kind, where no study has one."""
    mine = [row for row in (study if metric == "balanced_accuracy" else seeds) if (row["method"], row["variant"]) == (method, variant)]
    values = [row[metric] for row in mine if not pd.isna(row[metric])]
    if metric == "balanced_accuracy":
        return Level(name, *(mine[0][f"{metric}{end}"] for end in ("", "_lo", "_hi"))) if values else None
    if values:
        return Level(name, sum(values) / len(values), min(values), max(values))
    value = alone.get(method, {}).get(metric)
    return None if value is None else Level(name, value, value, value)


def _table(view: page.View, found: Mapping[str, Any], seeds: Rows, study: Rows, metrics: list[str]) -> pd.DataFrame:
    """A row a value, then the references; every cell a text."""
    swept, rows = found["sweep"], []
    by_run = {metric: {point.run_id: response.told(point, metric) for point in _points(found, metric) if not isnan(point.y)} for metric in metrics}
    headers = {metric: formats.METRICS[metric].header for metric in metrics}
    for point in found["points"]:
        cells = {headers[m]: by_run[m].get(point["run_id"], formats.MISSING) for m in metrics}
        lost = {} if point["metrics"] else {"State": "diverged"}
        rows.append({swept["name"]: formats.plain(point["value"]), **lost, **cells, "Run": point["run_id"]})
    others = [("retrained", "Retrained", "corrected"), ("original", "Original", "corrected"),
              (found["method"], f"{look(view.looks, found['method']).title(found['variant'])}, study", found["variant"])]
    for method, title, variant in others:
        levels = {m: _level(title, m, method, seeds, study, found["references"], variant) for m in metrics}
        if any(levels.values()):
            rows.append({swept["name"]: title, "Run": "",
                         **{headers[m]: formats.with_interval(level.value, level.lo, level.hi, formats.METRICS[m].kind) if (level := levels[m])
                            else formats.MISSING for m in metrics}})
    made = pd.DataFrame(rows).fillna("")
    return made[[swept["name"], *(["State"] if "State" in made else []), *headers.values(), "Run"]]


def _shortened(text: str) -> str:
    """A value in a request, with as many digits as people read."""
    try:
        return formats.plain(float(text)) if "." in text else text
    except ValueError:
        return text


def _span(method: Mapping[str, Any], param: Mapping[str, Any]) -> str:
    """Widgets of the values: which of a few, or from where to where and how many."""
    options, key = _options(param), _key(method, param)
    _begin(method, param)
    if options:
        chosen = st.multiselect("Values", options, key=f"{key}-values", format_func=formats.plain)
        return ",".join(str(value).lower() if isinstance(value, bool) else formats.plain(value) for value in chosen)
    kind = float if param["type"] == "float" else int
    least, most = (None if end is None else kind(end) for end in (param["low"], param["high"]))
    low, high, many = st.columns(3)
    shown: dict[str, Any] = {"min_value": least, "max_value": most, **({"format": "%g"} if kind is float else {"step": 1})}
    start = low.number_input("From", key=f"{key}-low", **shown)
    end = high.number_input("To", key=f"{key}-high", **shown)
    count = many.number_input("Values", FEWEST, MOST, step=1, key=f"{key}-count")
    st.caption("Evenly spaced by factors: this parameter is declared on a log scale." if param["log"] else "Evenly spaced.")
    return f"{start:.6g}:{end:.6g}:{count}"


def _begin(method: Mapping[str, Any], param: Mapping[str, Any]) -> None:
    """What the widgets start from where nothing was chosen: the values worth trying."""
    key, options = _key(method, param), _options(param)
    if options:
        st.session_state.setdefault(f"{key}-values", options[:MOST])
        return
    kind = float if param["type"] == "float" else int
    low, high = _worth(param)
    for name, value in (("low", kind(low)), ("high", kind(high)), ("count", 5)):
        st.session_state.setdefault(f"{key}-{name}", value)


def _fill(method: Mapping[str, Any], param: Mapping[str, Any], span: str) -> None:
    """Set the widgets to a span of the URL; what cannot be read is left aside."""
    key, options = _key(method, param), _options(param)
    if options:
        given = span.split(",")
        st.session_state[f"{key}-values"] = [value for value in options if str(value).lower() in given or formats.plain(value) in given]
        return
    kind = float if param["type"] == "float" else int
    try:
        if ":" in span:
            lowest, highest, many = span.split(":")
            low, high, count = float(lowest), float(highest), int(many)
        else:
            values = [float(part) for part in span.split(",")]
            low, high, count = min(values), max(values), len(values)
    except ValueError:
        return
    least, most = (end if end is not None else other for end, other in ((param["low"], low), (param["high"], high)))
    values = {"low": kind(min(max(low, least), most)), "high": kind(min(max(high, least), most)), "count": min(max(count, FEWEST), MOST)}
    st.session_state.update({f"{key}-{name}": value for name, value in values.items()})


def _options(param: Mapping[str, Any]) -> list[Any]:
    """The values of a parameter that has but a few, or a declared list of those worth trying; none where it has a range."""
    if param["type"] == "bool":
        return [False, True]
    search = param["search"]
    listed = isinstance(search, (list, tuple)) and (len(search) != 2 or param["type"] not in ("float", "int"))
    return list(param["choices"] or (search if listed else []))


def _worth(param: Mapping[str, Any]) -> tuple[float, float]:
    """From where to where: as declared, else around the default, within what is legal."""
    search, usual = param["search"], param["default"]
    if isinstance(search, (list, tuple)) and len(search) == 2:
        return search[0], search[1]
    low, high = (usual / 10, usual * 10) if param["log"] else (usual / 2, usual * 2)
    if usual == 0:
        return param["low"], param["high"]
    low, high = (1 if param["type"] == "int" and usual >= 1 else low), max(high, usual + (FEWEST if param["type"] == "int" else 0))
    return max(low, low if param["low"] is None else param["low"]), min(high, high if param["high"] is None else param["high"])


def _key(method: Mapping[str, Any], param: Mapping[str, Any]) -> str:
    return f"{_URL}-{method['name']}-{param['name']}"
