"""Carrying an export out: what is asked for, whose folder it is, what is missing and why."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import PlanError, StoreError, nearest
from extract.store.export.begun import begun, completed, finish
from extract.store.export.find import bind, layout
from extract.store.export.report import Exported, Missing
from extract.store.export.whole import whole

if TYPE_CHECKING:
    from extract.store import Store

MISSING = "missing.csv"
HEADER = ("clip_id", "key", "reason", "message")


def carry_out(
    store: Store, name: str, out: Path, keys: Sequence[str], ids: Sequence[str], options: Mapping[str, Any]
) -> Exported:
    """See :func:`extract.store.export.export`."""
    module, bound = layout(name), bind(name, options)
    chosen, clips = _keys(store, module, keys), _ids(store, ids)
    asked = {
        "layout": name,
        "keys": list(chosen),
        "ids": _digest(clips),
        "options": {
            option: str(value.absolute()) if isinstance(value, Path) else value for option, value in bound.items()
        },
        "store": store.digest(),
        "clips": len(clips),
        "features": {info.key: json.loads(info.identity) for info in store.keys() if info.key in chosen},  # noqa: SIM118
    }
    if (told := completed(out, asked)) is not None:
        note = f"{out} is complete already; delete the folder to write it anew"
        missing = tuple(Missing(clip, key, why) for clip, key, _, why in read_missing(out))
        return Exported(0, told["files"], 0, missing, (note,))
    with begun(out, asked):
        done: Exported = module.export(store, chosen, clips, out, **bound)
        _write_missing(store, chosen, done.missing, out)
        finish(out, asked, {"files": done.files + done.kept, "missing": len(done.missing)})
    return done


def read_missing(out: Path) -> list[tuple[str, str, str, str]]:
    """The rows of ``missing.csv``: clip id, key, reason, message. Empty: nothing is missing."""
    path = out / MISSING
    if not path.exists():
        return []
    rows = csv.reader(io.StringIO(path.read_text("utf-8"), newline=""), strict=True)
    next(rows)
    return [(clip, key, reason, message) for clip, key, reason, message in rows]


def _keys(store: Store, module: Any, names: Sequence[str]) -> tuple[str, ...]:
    if names:
        chosen = tuple(store.resolve(name) for name in names)
        if len(set(chosen)) < len(chosen):
            raise PlanError(f"a feature is asked for twice: {', '.join(chosen)}")
        return chosen
    default = getattr(module, "default_keys", None)
    found: tuple[str, ...] = default(store) if default else tuple(info.key for info in store.keys())  # noqa: SIM118
    if not found:
        raise StoreError(f"{store.path} holds no features yet; `extract run` computes them")
    return found


def _ids(store: Store, ids: Sequence[str]) -> tuple[str, ...]:
    listed = store.manifest
    with_rows = store.clip_ids()
    failed = {remark.clip_id for remark in store.failed()}
    if not ids:
        others = set(with_rows) | failed
        return (*listed, *sorted(others.difference(listed)))
    known = failed.union(listed, with_rows)
    for clip in ids:
        if clip not in known:
            raise nearest(clip, sorted(known), f"clip of {store.path}")
    if len(set(ids)) < len(ids):
        raise PlanError("a clip is asked for twice")
    return tuple(ids)


def _digest(ids: Iterable[str]) -> str:
    total = hashlib.sha256()
    for clip in ids:
        total.update(json.dumps(clip).encode())
    return total.hexdigest()


def _write_missing(store: Store, keys: Sequence[str], missing: Sequence[Missing], out: Path) -> None:
    if not missing:
        return
    said = {(remark.clip_id, remark.key): remark for remark in store.failed()}
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for each in missing:
        lacking = [key for key in keys if (each.clip_id, key) not in store]
        for key in (each.key,) if each.key else lacking or ("",):
            remark = said.get((each.clip_id, key))
            if remark is not None:
                writer.writerow((each.clip_id, key, remark.reason, remark.message))
            else:
                reason = "unfit" if not key or (each.clip_id, key) in store else "not_computed"
                writer.writerow((each.clip_id, key, reason, each.why))
    text = buffer.getvalue().encode()
    with whole(out / MISSING, len(text)) as file:
        file.write(text)
