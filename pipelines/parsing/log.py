"""The log of a run: one row per epoch, as CSV and for TensorBoard where that is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extract.store.sink import unwritable
from pipelines.parsing.run_folder import LOG, read_table, write_table

TENSORBOARD = "tensorboard"


def has_tensorboard() -> bool:
    """Whether the package ``tensorboard`` is installed."""
    return importlib.util.find_spec("tensorboard") is not None


class Log:
    """Rows of ``log.csv``, written anew with every row; the same numbers go to ``tensorboard/``.

    Parameters
    ----------
    folder
        of the run; rows that are there already are kept, see :meth:`keep`
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG
        self._rows: list[dict[str, Any]] = list(read_table(self._path))
        self._board: Any = None

    def keep(self, epochs: int) -> None:
        """Forget the rows from epoch `epochs` on: they are about to be made again."""
        self._rows = self._rows[:epochs]
        if has_tensorboard():
            from torch.utils.tensorboard import SummaryWriter

            folder = self._path.parent / TENSORBOARD
            with _written(folder):
                self._board = SummaryWriter(str(folder), purge_step=epochs)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one epoch."""
        self._rows.append(dict(row))
        write_table(self._path, self._rows)
        if self._board is not None:
            with _written(self._path.parent / TENSORBOARD):
                for name, value in row.items():
                    if isinstance(value, int | float) and name != "epoch":
                        self._board.add_scalar(name, value, row["epoch"])

    def close(self) -> None:
        """Have TensorBoard's file written."""
        if self._board is not None:
            with _written(self._path.parent / TENSORBOARD):
                self._board.close()


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """TensorBoard's errors as ours: it writes by itself, and stops at a full disk."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, 0, error) from error
