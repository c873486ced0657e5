"""The tables of a search as CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from extract.errors import StoreError
from pipelines.collocation.report.compared import Row, estimates_rows, methods_rows, ranking_rows
from pipelines.collocation.report.layouts import fig5_rows, fig6_rows, heat_rows, table1_rows, table3_rows, table5_rows
from pipelines.collocation.report.told import Search
from pipelines.parsing.run_folder import make_folder, write_table

FIRST_COLUMNS = {
    "ranking": ("rank", "collocation"),
    "methods": ("method", "winner"),
    "table1": ("kind",),
    "table3": ("audio", "clip"),
    "table5": ("source", "traverse_s"),
    "fig5": ("collocation", "fig5"),
    "fig6": ("collocation", "split"),
    "heat": ("audio", "clip"),
    "estimates": ("collocation",),
}
"""By which a file is known to be ours."""


def tables(search: Search) -> dict[str, list[Row]]:
    """Rows by the name of their file; a table without rows is left out."""
    found = {
        "ranking": ranking_rows(search),
        "methods": methods_rows(search),
        "table1": table1_rows(search),
        "table3": table3_rows(search),
        "table5": table5_rows(search),
        "fig5": fig5_rows(search),
        "fig6": fig6_rows(search),
        "heat": heat_rows(search),
        "estimates": estimates_rows(search),
    }
    return {name: rows for name, rows in found.items() if rows}


def check_tables(folder: Path) -> None:
    """Refuse to replace files that are not ours.

    Raises
    ------
    StoreError
        a file of one of those names is there that we did not write
    """
    for name, columns in FIRST_COLUMNS.items():
        path = folder / f"{name}.csv"
        if path.is_dir():
            raise StoreError(f"{path} is a folder, and a file is to be written there; move it away")
        if path.exists():
            with path.open("rb") as file:
                head = file.readline(4096).decode("utf-8", "replace").rstrip("\r\n").split(",")
            if tuple(head[: len(columns)]) != columns:
                raise StoreError(f"{path} is there and `extract collocate` did not write it; move it away")


def write_tables(folder: Path, told: Mapping[str, Sequence[Row]]) -> None:
    """Write every table whole; numbers that are not known are empty cells, and tables of an earlier report are replaced.

    Raises
    ------
    StoreUnwritable
        the folder cannot be written to
    """
    make_folder(folder)
    for name, rows in told.items():
        write_table(folder / f"{name}.csv", [{column: _cell(value) for column, value in row.items()} for row in rows])


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and isnan(value) else value
