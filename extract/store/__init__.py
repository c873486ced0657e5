"""Feature stores: ``from extract.store import Store``. Reading one needs numpy and h5py only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extract.store.store import Batch, Location, Store

__all__ = ["Batch", "Location", "Store"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from extract.store import store  # h5py is loaded by whoever reads, not by whoever names a clip's rows

        return getattr(store, name)
    raise AttributeError(f"module 'extract.store' has no attribute {name!r}")
