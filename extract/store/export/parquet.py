"""Tables for pandas, DuckDB, Polars and datasets: <backbone>/000000.parquet, ..., one line per row of a clip.

Columns: clip_id, split, labels (list of strings), row (its number in the clip, from 0), start_s and stop_s (its window, from the
start of the clip), valid (False: a policy filled it), and ``<backbone>``, a list of D numbers. Each network has its own folder
because rows and their lengths differ; tables of networks with equal windows join on clip_id and row. Rows of more than one axis
are flattened in C order; the schema's metadata, under ``extract``, is JSON with dims, key, identity, weights and licence.

Lists are of fixed size, and float16 where that is what is stored: both need readers of 2024 or later; ``--dtype float32`` helps
older ones. Needs pyarrow: ``pip install 'extract-av[parquet]'``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from extract.errors import PlanError
from extract.plan import canonical_json
from extract.store.export.asked import DType, Tally, cast, infos, look_up, make_folder, needed_bytes, shards
from extract.store.export.naming import key_names
from extract.store.export.report import Exported
from extract.store.export.whole import whole
from extract.store.rows import KeyInfo

if TYPE_CHECKING:
    import pyarrow

    from extract.store import Store

ROW_GROUP_BYTES = 32 * 2**20
_PLAIN = ("clip_id", "split", "labels.list.element", "row", "start_s", "stop_s", "valid")


def export(
    store: Store,
    keys: Sequence[str],
    ids: Sequence[str],
    out: Path,
    *,
    shard_clips: int = 1000,
    dtype: DType | None = None,
) -> Exported:
    """Write the tables; a file that is there is whole, and stays.

    Parameters
    ----------
    store
        to export from
    keys
        full keys
    ids
        clips, in the order of the lines
    out
        folder
    shard_clips
        clips per file
    dtype
        of the numbers; None: as stored

    Returns
    -------
    Exported
        `missing` has the clips without rows, which have no lines

    Raises
    ------
    PlanError
        `shard_clips` is below 1, or pyarrow is not installed
    StoreUnwritable, StoreError
        see `whole` and :meth:`Store.rows`
    """
    _need_pyarrow()
    known = infos(store, keys)
    there, missing = look_up(store, keys, ids)
    needed = needed_bytes(store, there, dtype)
    tally = Tally()
    for key, name in key_names(keys).items():
        folder = make_folder(out / name)
        schema = _schema(known[key], name, dtype)
        for number, clips in shards(there[key], shard_clips):
            path = folder / f"{number:06d}.parquet"
            tally.file(_write(store, path, clips, key, schema, dtype, needed - tally.size_bytes))
    return tally.exported(missing)


def _need_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise PlanError(
            f"the layout parquet needs pyarrow ({error}); install it: pip install 'extract-av[parquet]'"
        ) from error


def _schema(info: KeyInfo, name: str, dtype: DType | None) -> pyarrow.Schema:
    import pyarrow as pa

    number = pa.float16() if (dtype or info.storage) == "float16" else pa.float32()
    about = {
        "dims": list(info.dims),
        "key": info.key,
        "identity": json.loads(info.identity),
        "weights": info.weights,
        "licence": info.licence,
    }
    return pa.schema(
        [
            ("clip_id", pa.string()),
            ("split", pa.string()),
            ("labels", pa.list_(pa.string())),
            ("row", pa.int32()),
            ("start_s", pa.float64()),
            ("stop_s", pa.float64()),
            ("valid", pa.bool_()),
            (name, pa.list_(number, math.prod(info.dims))),
        ],
        metadata={"extract": canonical_json(about)},
    )


def _write(
    store: Store,
    path: Path,
    clips: Sequence[str],
    key: str,
    schema: pyarrow.Schema,
    dtype: DType | None,
    needed: int,
) -> int:
    if path.exists():
        return 0
    import pyarrow as pa
    from pyarrow import parquet as pq

    # Numbers neither repeat nor have a useful smallest and largest: no dictionary, no statistics of them.
    columns: dict[str, Any] = {
        "use_dictionary": ["clip_id", "split", "labels.list.element"],
        "write_statistics": [*_PLAIN],
    }
    with whole(path, needed) as file:
        with pq.ParquetWriter(file, schema, **columns) as writer:
            waiting: list[pa.RecordBatch] = []
            size = 0
            for clip_id in clips:
                waiting.append(_lines(store, clip_id, key, schema, dtype))
                size += waiting[-1].nbytes
                if size >= ROW_GROUP_BYTES:
                    _row_group(writer, waiting)
                    waiting, size = [], 0
            if waiting:
                _row_group(writer, waiting)
        file.flush()
        os.fsync(file.fileno())  # that it is there must mean that it is whole, also after a power cut
    return path.stat().st_size


def _row_group(writer: Any, batches: list[pyarrow.RecordBatch]) -> None:
    import pyarrow as pa

    table = pa.Table.from_batches(batches)
    if table.num_rows:
        writer.write_table(table, row_group_size=table.num_rows)


def _lines(store: Store, clip_id: str, key: str, schema: pyarrow.Schema, dtype: DType | None) -> pyarrow.RecordBatch:
    import pyarrow as pa

    rows = store.rows(clip_id, key)
    data = cast(rows, dtype)
    clip = store.manifest.get(clip_id)
    count = len(data)
    numbers = schema.field(schema.names[-1]).type
    columns = [
        pa.repeat(pa.scalar(clip_id, pa.string()), count),
        pa.repeat(pa.scalar(clip.split if clip else "", pa.string()), count),
        pa.repeat(pa.scalar(list(clip.labels) if clip else [], pa.list_(pa.string())), count),
        pa.array(np.arange(count, dtype=np.int32)),
        pa.array(rows.window_ns[:, 0] / 1e9),
        pa.array(rows.window_ns[:, 1] / 1e9),
        pa.array(rows.valid.astype(bool)),
        pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(data).reshape(-1)), type=numbers),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
