"""The tables as they are, for browsing: a page of rows under conditions, and the same rows whole as a file.

Like `queries`, over the views of `reader.open_results`. Names of tables and columns are those of `schema`, values are bound.
"""

from io import BytesIO
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from duckdb import DuckDBPyConnection

from engine.errors import BadInput, StoreError
from engine.store import schema
from engine.store.reader import quoted

Where = tuple[tuple[str, str, Any], ...]  # column, operator, value: all of them must hold

MOST = 1_000_000  # rows in one file
CHOICES = 60  # of `choices`
_SORTED = 5_000_000  # rows that may be put in order
_SHOWN = 300  # characters of a text
_OPERATORS = {"in": "list_contains(${at}, {column})", ">=": "{column} >= ${at}", "<=": "{column} <= ${at}", "is": "{column} = ${at}",
              "holds": "contains(lower({column}), lower(${at}))"}


def sizes(db: DuckDBPyConnection) -> pd.DataFrame:
    """How much there is: table str | rows int, in the order of the schema."""
    return pd.DataFrame([{"table": table, "rows": int(count(db, table=table)["rows"][0])} for table in schema.stored()])


def count(db: DuckDBPyConnection, *, table: str, where: Where = ()) -> pd.DataFrame:
    """rows int, of a table under conditions."""
    text, values = _under(table, where)
    return _ask(db, f"SELECT count(*) AS rows FROM {quoted(table)}{text}", values)


def page(db: DuckDBPyConnection, *, table: str, where: Where = (), order: str = "", down: bool = False, limit: int = 100,
         offset: int = 0) -> pd.DataFrame:
    """Every column of some rows of a table; long texts are cut. order: a column, else as they lie in the files; missing values last.

    Raises: BadInput on what the table does not have, and where too many rows would have to be put in order.
    """
    text, values = _under(table, where)
    if order:
        _column(table, order)
        if int(count(db, table=table, where=where)["rows"][0]) > _SORTED:
            raise BadInput(f"{table}: more than {_SORTED:,} rows are not put in order; add a condition, or leave the order as it is")
    shown = ", ".join(f"CASE WHEN length({quoted(c)}) > {_SHOWN} THEN {quoted(c)}[:{_SHOWN}] || '…' ELSE {quoted(c)} END AS {quoted(c)}"
                      if kind == "VARCHAR" else quoted(c) for c, (kind, _) in schema.stored()[table].items())
    ties = "".join(f", {quoted(table)}.{quoted(c)}" for c in schema.stored()[table] if c != order)  # else a row might be on two pages, or on none
    sorting = f" ORDER BY {quoted(table)}.{quoted(order)} {'DESC' if down else 'ASC'} NULLS LAST{ties}" if order else ""
    return _ask(db, f"SELECT {shown} FROM {quoted(table)}{text}{sorting} LIMIT {int(limit)} OFFSET {int(offset)}", values)


def choices(db: DuckDBPyConnection, *, table: str, column: str) -> pd.DataFrame:
    """Values of a text column, for choosing among: value str, sorted. Empty where there are more than CHOICES."""
    _column(table, column)
    asked = f"SELECT DISTINCT {quoted(column)} AS value FROM {quoted(table)} WHERE {quoted(column)} IS NOT NULL"
    found = _ask(db, f"SELECT value FROM ({asked} LIMIT {CHOICES + 1}) ORDER BY value", {})
    return found if len(found) <= CHOICES else found[:0]


def run(db: DuckDBPyConnection, *, run_id: str) -> pd.DataFrame:
    """The row of `runs` with this id, every column whole; no row where there is none."""
    return _ask(db, "SELECT * FROM runs WHERE run_id = $id", {"id": run_id})


def belongings(db: DuckDBPyConnection, *, run_id: str) -> pd.DataFrame:
    """What a run has left in each table that has any of it: table str | rows int."""
    parts = [f"SELECT '{table}' AS \"table\", count(*) AS rows FROM {quoted(table)} WHERE run_id = $id" for table in schema.TABLES if table != "runs"]
    return _ask(db, f"SELECT * FROM ({' UNION ALL '.join(parts)}) WHERE rows > 0", {"id": run_id})


def whole(db: DuckDBPyConnection, *, table: str, where: Where = ()) -> pa.Table:
    """All rows under conditions, at full length, for a file. Raises: BadInput where they are more than MOST; StoreError."""
    text, values = _under(table, where)
    rows = int(count(db, table=table, where=where)["rows"][0])
    if rows > MOST:
        raise BadInput(f"{table}: {rows:,} rows are more than the {MOST:,} of one file; add a condition")
    try:
        return db.sql(f"SELECT * FROM {quoted(table)}{text}", params=values).to_arrow_table()
    except duckdb.Error as error:
        raise StoreError(_unreadable(error)) from error


def parquet(rows: pa.Table) -> bytes:
    """As a Parquet file."""
    made = BytesIO()
    with pyarrow.parquet.ParquetWriter(made, rows.schema, compression="zstd") as file:
        file.write_table(rows)
    return made.getvalue()


def csv(rows: pa.Table) -> bytes:
    """As a CSV file with a header; what is missing is empty, and an empty text is in quotes."""
    made = BytesIO()
    pyarrow.csv.write_csv(rows, made)
    return made.getvalue()


def _under(table: str, where: Where) -> tuple[str, dict[str, Any]]:
    """The WHERE of the conditions, and the values that it binds."""
    if table not in schema.stored():
        raise BadInput(f"no table {table!r}; there are {', '.join(schema.stored())}")
    parts: list[str] = []
    values: dict[str, Any] = {}
    for at, (column, operator, value) in enumerate(where):
        _column(table, column)
        if operator not in _OPERATORS:
            raise BadInput(f"no operator {operator!r}; there are {', '.join(_OPERATORS)}")
        parts.append(_OPERATORS[operator].format(column=quoted(column), at=f"v{at}"))
        values[f"v{at}"] = list(value) if operator == "in" else value
    return " WHERE " + " AND ".join(parts) if parts else "", values


def _column(table: str, column: str) -> None:
    if column not in schema.stored()[table]:
        raise BadInput(f"{table}: no column {column!r}; there are {', '.join(schema.stored()[table])}")


def _ask(db: DuckDBPyConnection, sql: str, values: dict[str, Any]) -> pd.DataFrame:
    try:
        return db.execute(sql, values).df()
    except duckdb.Error as error:
        raise StoreError(_unreadable(error)) from error


def _unreadable(error: duckdb.Error) -> str:
    return f"The results cannot be read: {str(error).splitlines()[0]}. `python -m engine doctor` says which file is damaged."
