"""Exports: a store written as the files that other people's code reads.

A layout is a module of this folder with a function ``export``; nothing else names it, so one more layout is one more
file::

    def export(store: Store, keys: Sequence[str], ids: Sequence[str], out: Path, *, option: str = "x") -> Exported

`keys` are full keys, `ids` clip ids in the order asked for (clips without rows are among them), `out` is a folder that
exists. Its keyword options are those that `extract export` hands on by name. The first line of the module's docstring is
what people see. A layout that cannot use every key of a store also has ``default_keys(store) -> tuple[str, ...]``.

A layout writes with :func:`~extract.store.export.whole.whole` and :func:`~extract.store.export.whole.write_npy`, and
leaves alone what is there already: it is called again for an export that was interrupted, with the same store content,
keys, ids and options.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.store.export.find import layouts
from extract.store.export.report import Exported, Missing

if TYPE_CHECKING:
    from extract.store import Store

__all__ = ["Exported", "Missing", "export", "layouts"]


def export(
    store: Store, layout: str, out: Path, keys: Sequence[str] = (), ids: Sequence[str] = (), **options: Any
) -> Exported:
    """Write a store in a layout; the same export given again goes on where it was interrupted.

    ``out/export.json`` says what was asked for and whether it is complete. ``out/missing.csv`` (clip_id, key, reason,
    message) lists what could not be written, if there is any.

    Parameters
    ----------
    store
        what is exported
    layout
        see :func:`layouts`
    out
        a folder that is new, empty, or of this very export
    keys
        full keys or backbones' names; none: every key of the store that the layout can use
    ids
        clip ids; none: those of the store's manifest in its order, then those that are in no manifest
    **options
        of the layout

    Returns
    -------
    Exported
        what was written now; nothing where the export was complete already

    Raises
    ------
    UnknownName
        no such layout, key or clip
    PlanError
        an option that the layout does not have
    StoreError
        `out` holds something else, or an export of another request or of another content of the store: delete it or
        choose another folder, nothing is ever overwritten
    StoreBusy
        another process writes this export
    StoreUnwritable
        no space, no permission, ...; the same call goes on afterwards
    """
    from extract.store.export.run import carry_out

    return carry_out(store, layout, out, keys, ids, options)
