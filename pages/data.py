"""Data: can I have it all? Every table to browse and to take away, read-only SQL, and the command behind every number."""

import json
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from engine import queue
from engine.errors import BadInput, RunError
from engine.store import console, schema, tables
from pages.ui import browse, filters, formats, nav, page, store
from pages.ui.browse import Conditions
from pages.ui.formats import Row

VIEWS = {"browse": "Browse tables", "sql": "Ask in SQL", "run": "Where a number comes from"}
SIZES = (50, 100, 500)
_AS_STORED = "as stored"
_ROUND = "data-round"
_FACTS = {"kind": "Kind", "study": "Study", "dataset": "Dataset", "model": "Model", "method": "Method", "variant": "Variant", "attack": "Attack",
          "protocol": "Protocol", "seed": "Seed", "split": "Split", "forget": "Forget set", "mode": "Mode", "executor": "Executor",
          "precision": "Precision", "device": "Device", "threads": "Threads", "machine": "Machine"}


def body(view: page.View) -> None:
    sizes = {row["table"]: row["rows"] for row in store.rows(tables.sizes)}
    clean = store.rows(tables.count, table="runs", where=(("clean", "is", True),))[0]["rows"]
    page.lead(view.screen.question, browse.answer(sizes, clean))
    filters.linked("view", "view@data", "browse", lambda text: text if text in VIEWS else None)
    chosen = st.segmented_control("What to do", list(VIEWS), key="view@data", format_func=VIEWS.__getitem__, required=True,
                                  label_visibility="collapsed") or "browse"
    filters.write("view", chosen)
    if chosen == "browse":
        _browse(sizes)
    elif chosen == "sql":
        _sql()
    else:
        _run()
    with st.container(key="foot"):
        st.caption(f"All of it is in one file, `data/{store.SHIPPED.name}`, and in the run folders of this machine; any DuckDB client reads the file: "
                   f"`duckdb.connect('data/{store.SHIPPED.name}', read_only=True)`.")


# ---- browsing


def _browse(sizes: dict[str, int]) -> None:
    """A table under conditions, page by page, with its schema below."""
    filters.linked("table", "table@data", "runs", lambda text: text if text in sizes else None)
    table = st.selectbox("Table", list(sizes), key="table@data", format_func=lambda name: f"{name} ({formats.counted(sizes[name], 'row')})")
    filters.write("table", table)
    conditions = _conditions(table)
    where = browse.where(conditions)
    rows = int(store.rows(tables.count, table=table, where=where)[0]["rows"])
    if rows:
        _rows(table, where, rows)
        _downloads(f"lethe-{table}", rows, lambda: store.fetch(tables.whole, table=table, where=where))
    else:
        st.info("No row meets these conditions." if conditions else "This table is empty so far: it fills as runs finish.",
                icon=":material/hourglass_empty:")
    if (run_id := st.query_params.get("run")) and rows:
        with st.container(border=True, key="behind"):
            head, close = st.columns([8, 1], vertical_alignment="center")
            head.subheader("The run behind the row", anchor=False)
            close.button("Close", on_click=_close, key="behind-close", type="tertiary", icon=":material/close:")
            _behind(run_id)
    with st.expander(f"What the columns of {table} mean", icon=":material/schema:"):
        _schema(table)
        st.caption(f"All tables are described in `docs/schema.md`; this is version {schema.VERSION} of them. Shipped results and those of this machine "
                   "are shown as one; of a run that is in both, the latter counts.")


def _conditions(table: str) -> Conditions:
    """One widget a column that rows are filtered by. Columns that the next table has too stay filtered."""
    filters.linked("where", "conditions@data", {}, lambda text: browse.read(text, table))
    given: Conditions = st.session_state["conditions@data"]
    if (table, given) != st.session_state.get("data-conditions"):  # a link or another table: the widgets start anew, from what fits
        given = {column: value for column, value in given.items() if browse.read(browse.written({column: value}), table) is not None}
        for key in [key for key in st.session_state if str(key).startswith("only-")]:
            del st.session_state[key]
    known, key = browse.kinds(table), f"only-{table}"
    if key not in st.session_state:
        st.session_state[key] = list(given)
    columns = st.multiselect("Only rows where", list(known), key=key, placeholder="Choose columns to filter by")
    places = st.columns(3, gap="small") if columns else []
    made: Conditions = {}
    for at, column in enumerate(columns):
        with places[at % 3]:
            made[column] = _condition(table, column, known[column], given.get(column))
    st.session_state["conditions@data"], st.session_state["data-conditions"] = made, (table, made)
    kept = {column: value for column, value in made.items() if browse.where({column: value})}
    if kept:
        filters.write("where", browse.written(kept))
    else:
        st.query_params.pop("where", None)
    return kept


def _condition(table: str, column: str, kind: str, given: Any) -> Any:
    """The widget of one column, as fits its kind, and what it is at."""
    key = f"only-{table}-{column}"
    if kind == "yes or no":
        st.session_state.setdefault(key, "no" if given is False else "yes")
        return st.segmented_control(column, ["yes", "no"], key=key, required=True) == "yes"
    if kind == "number":
        low, high = given or (None, None)
        columns = st.columns(2, gap="small")
        return [columns[at].number_input(f"{column} {word}", value=None if end is None else float(end), key=f"{key}-{word}", format="%.12g")
                for at, (word, end) in enumerate((("from", low), ("to", high)))]
    values = [] if column == "run_id" else [row["value"] for row in store.rows(tables.choices, table=table, column=column)]
    if values:
        chosen = [given] if isinstance(given, str) else given or []
        st.session_state.setdefault(key, [value for value in chosen if value in values])
        return st.multiselect(column, values, key=key, placeholder="Any")
    st.session_state.setdefault(key, given if isinstance(given, str) else "")
    return st.text_input(f"{column} holds", key=key)


def _rows(table: str, where: tables.Where, rows: int) -> None:
    """One page of the table; a row shows its run."""
    columns = list(schema.stored()[table])
    sorting, down, size, place = st.columns([3, 2, 2, 2], gap="small", vertical_alignment="bottom")
    filters.linked("order", "order@data", _AS_STORED, lambda text: text if text in columns else None)
    if st.session_state["order@data"] not in columns:
        st.session_state["order@data"] = _AS_STORED
    by = sorting.selectbox("Order by", [_AS_STORED, *columns], key="order@data")
    filters.write("order", by)
    filters.linked("down", "down@data", False, lambda text: text == "True")
    falling = down.toggle("Largest first", key="down@data", disabled=by == _AS_STORED)
    filters.write("down", falling)
    filters.linked("size", "size@data", SIZES[1], lambda text: int(text) if text.isdecimal() and int(text) in SIZES else None)
    limit = size.selectbox("Rows a page", SIZES, key="size@data")
    filters.write("size", limit)
    pages = -(-rows // limit)
    filters.linked("page", "page@data", 1, lambda text: int(text) if text.isdecimal() and int(text) > 0 else None)
    st.session_state["page@data"] = min(st.session_state["page@data"], pages)
    at = int(place.number_input(f"Page of {formats.number(pages, 'count')}", 1, pages, key="page@data"))
    filters.write("page", at)
    try:
        order = {} if by == _AS_STORED else {"order": by, "down": falling}
        shown = store.ask(tables.page, table=table, where=where, limit=limit, offset=(at - 1) * limit, **order)
    except BadInput as error:
        st.info(str(error), icon=":material/sort:")
        shown = store.ask(tables.page, table=table, where=where, limit=limit, offset=(at - 1) * limit)
    key, ids = f"rows-{st.session_state.get(_ROUND, 0)}-{table}-{at}", list(shown["run_id"])
    first, last = (at - 1) * limit + 1, min(at * limit, rows)
    picked = [ids.index(wanted)] if (wanted := st.query_params.get("run")) in ids else []
    st.dataframe(shown, hide_index=True, key=key, on_select=lambda: _pick(key, ids), selection_mode="single-row", placeholder=formats.MISSING,
                 selection_default={"selection": {"rows": picked}} if picked else None, height=_tall(len(shown)),
                 alt=f"Rows {first} to {last} of {rows} of the table {table}")
    st.caption(f"Rows {formats.number(first, 'count')} to {formats.number(last, 'count')} of {formats.number(rows, 'count')}. Long texts are cut here, "
               "not in the files. Choose a row to see the run and the command behind it.")


def _downloads(name: str, rows: int, make: Callable[[], pa.Table]) -> None:
    """All rows under the conditions as files."""
    too_many = rows > tables.MOST
    with st.container(horizontal=True, vertical_alignment="center"):
        for kind, written, mime in (("Parquet", tables.parquet, "application/vnd.apache.parquet"), ("CSV", tables.csv, "text/csv")):
            st.download_button(kind, data=lambda written=written: written(make()), file_name=f"{name}.{kind.lower()}", mime=mime, on_click="ignore",
                               disabled=too_many, icon=":material/download:", key=f"{name}-{kind}")
        st.caption(f"{formats.counted(rows, 'row')} are more than the {formats.number(tables.MOST, 'count')} of one file: add a condition."
                   if too_many else f"{'The' if rows == 1 else 'All'} {formats.counted(rows, 'row')}, every column whole.")


def _tall(rows: int) -> int:
    """Height of a table that shows its rows without empty ones below; px."""
    return min(36 * (rows + 1) + 2, 460)


def _schema(table: str) -> None:
    st.dataframe(browse.described(table), hide_index=True, height="content", alt=f"Columns of the table {table}, with type and meaning",
                 column_config={"Column": st.column_config.TextColumn(width=130), "Type": st.column_config.TextColumn(width=90),
                                "Meaning": st.column_config.TextColumn(width="large")})


# ---- SQL


def _sql() -> None:
    """A query, its answer, and what there is to ask for."""
    limits = console.Limits()
    filters.linked("sql", "sql@data", next(iter(browse.EXAMPLES.values())), lambda text: text or None)
    left, right = st.columns([5, 3], gap="medium")
    with left:
        st.selectbox("Examples", list(browse.EXAMPLES), index=None, key="example@data", on_change=_example, placeholder="Start from an example")
        with st.form("sql", border=False):
            st.text_area("One SELECT statement", key="sql@data", height=260, max_chars=console.LONGEST)
            asked = st.form_submit_button("Run", type="primary", icon=":material/play_arrow:")
        st.caption(f"DuckDB's SQL over the same tables as Browse. Read-only: no files, no network, {limits.seconds:g} seconds, "
                   f"{limits.memory_bytes // 4_000_000} MB for data, {formats.number(limits.rows, 'count')} rows.")
    with right:
        table = st.selectbox("Columns of", list(schema.stored()), key="columns@data")
        st.dataframe(browse.described(table), hide_index=True, height=330, alt=f"Columns of the table {table}, with type and meaning",
                     column_config={"Column": st.column_config.TextColumn(width=110), "Type": st.column_config.TextColumn(width=80)})
    sql = st.session_state["sql@data"]
    if asked:
        st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
    elif not st.query_params.get("sql"):
        return
    filters.write("sql", sql)
    try:
        with st.spinner("Asking"):
            answer = _asked(sql, store.SHIPPED, queue.home(), store.stamp(), st.session_state.get(_ROUND, 0))
    except console.Busy as error:
        st.warning(str(error), icon=":material/hourglass_top:")
        return
    if isinstance(answer, str):
        first, _, rest = answer.partition("\n")
        st.error(first, icon=":material/error:")
        if rest.strip():
            st.code(rest.strip("\n"), language=None, wrap_lines=True)
        return
    _answer(answer)


@st.cache_data(ttl=600, max_size="100MB", show_spinner=False)
def _asked(sql: str, shipped: Path, home: Path, stamp: Hashable, asked: int) -> console.Answer | str:
    """The answer, or why there is none; so that a query that was stopped is not begun again with every click."""
    try:
        return console.ask(sql, shipped, home)
    except console.Busy:
        raise
    except (BadInput, RunError) as error:
        return str(error)


def _answer(answer: console.Answer) -> None:
    """The rows, and the same as files."""
    rows = answer.rows.num_rows
    if not rows:
        st.info(f"No row, in {formats.duration(answer.wall_s)}.", icon=":material/hourglass_empty:")
        return
    st.dataframe(answer.rows.to_pandas(), hide_index=True, placeholder=formats.MISSING, height=_tall(rows),
                 alt=f"The answer: {rows} rows")
    if answer.more:
        st.warning(f"Only the first {formats.number(rows, 'count')} rows; there are more. Filter, aggregate, or take the table from Browse.",
                   icon=":material/content_cut:")
    st.caption(f"{formats.counted(rows, 'row')}, {formats.counted(answer.rows.num_columns, 'column')} in {formats.duration(answer.wall_s)}.")
    _downloads("lethe-answer", rows, lambda: answer.rows)


def _example() -> None:
    if name := st.session_state["example@data"]:
        st.session_state["sql@data"] = browse.EXAMPLES[name]


# ---- one run


def _run() -> None:
    """The run that made a number, by its id."""
    filters.linked("run", "run@data", "", lambda text: text or None)
    run_id = st.text_input("run_id", key="run@data", placeholder="as every row of every table and every exported figure names it").strip()
    if not run_id:
        st.info("Paste a run_id, or choose a row under “Browse tables”. The id is a hash of all that the run's numbers depend on.",
                icon=":material/fingerprint:")
        return
    filters.write("run", run_id)
    _behind(run_id)


def _behind(run_id: str) -> None:
    """How a run came to be: the command, the code, the machine, its setting and its numbers."""
    found = store.rows(tables.run, run_id=run_id)
    if not found:
        st.warning(f"There is no run `{run_id}` here. It may be planned and not yet done, or come from another machine: `python -m engine ingest DIR` "
                   "takes in what was computed there.", icon=":material/search_off:")
        return
    run = found[0]
    facts = [f"**{title}** {run[column]}" for column, title in _FACTS.items() if run[column] is not None and not pd.isna(run[column])]
    took = formats.duration(run["wall_s"]) + ("" if pd.isna(run["replicas"]) else f" for a stack of {run['replicas']:.0f}")
    st.markdown(f"`{run_id}` · **{run['status']}** · started {pd.Timestamp(run['started']):%Y-%m-%d %H:%M:%S} UTC, {took}  \n" + " · ".join(facts))
    if run["error"]:
        st.error(run["error"], icon=":material/error:")
    if run["command"]:
        st.caption("The exact command, on the code that made it:" if run["commit"] else "The exact command (the code was no git checkout):")
        st.code("\n".join([*([f"git checkout {run['commit']}"] if run["commit"] else []), run["command"]]), language="bash", wrap_lines=True)
    else:
        st.caption("No command was recorded for this run.")
    if run["clean"] is not None and not run["clean"]:
        st.warning("The checkout had uncommitted changes, so the commit alone does not give this code.", icon=":material/edit_note:")
    numbers = store.ask(tables.page, table="metrics", where=(("run_id", "in", (run_id,)),), order="name", limit=1000)
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Its numbers**")
        if numbers.empty:
            st.caption("It has no rows in `metrics`.")
        else:
            st.dataframe(numbers.drop(columns="run_id"), hide_index=True, placeholder=formats.MISSING, height=_tall(len(numbers)),
                         alt="Metrics of the run, with 95 % intervals where it has them")
    with right:
        st.markdown("**All that they depend on**")
        st.json(_json(run, "cell"), expanded=1)
        with st.expander("Library versions"):
            st.json(_json(run, "versions"))
    others = [row for row in store.rows(tables.belongings, run_id=run_id) if row["table"] != "metrics"]
    if others:
        st.caption("It also left:")
        with st.container(horizontal=True):
            for row in others:
                where = browse.written({"run_id": run_id})
                label = f"{formats.counted(row['rows'], 'row')} in {row['table']}"
                st.page_link(nav.screen("data").script, label=label, icon=":material/table_rows:",
                             query_params={**filters.link(), "view": "browse", "table": row["table"], "where": where})


def _json(run: Row, column: str) -> Any:
    """A JSON column; long lists, such as of the models that an attack is on, by their length."""
    given = json.loads(run[column] or "{}")
    return {name: f"{len(value)} entries" if isinstance(value, list) and len(value) > 20 else value for name, value in given.items()}


def _pick(key: str, ids: list[str]) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    if rows:
        st.query_params["run"] = ids[rows[0]]
    else:
        st.query_params.pop("run", None)


def _close() -> None:
    st.query_params.pop("run", None)
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1


page.show("data", body)
