"""What can be computed, as plain data: views (what a network eats), weights (where it comes from), backbones.

Nothing here imports torch, so that listing the zoo costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backbones.views import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    KINETICS_MEAN,
    KINETICS_STD,
    Frames,
    LogMel,
    Sound,
    View,
    describe_view,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "KINETICS_MEAN",
    "KINETICS_STD",
    "Backbone",
    "Frames",
    "LogMel",
    "Sound",
    "State",
    "View",
    "Weights",
    "describe_view",
]


@dataclass(frozen=True, slots=True)
class Weights:
    """One published weight file.

    Parameters
    ----------
    uri
        where it is published
    sha256
        its digest in lower-case hex: all 64 digits, or the prefix its publisher put in the file name;
        None where none was ever published
    filename
        official file name; defaults to the last part of `uri`
    licence
        of the trained weights
    mirrors
        other places that serve the same bytes
    note
        what a user must know, such as a restriction of the licence
    checksum
        where no sha256 was published, what was: ``md5:<hex>``, ``sha1:<hex>``, or ``git:<hex>``, the blob id under which git
        keeps the file
    """

    uri: str
    sha256: str | None
    licence: str
    filename: str = ""
    mirrors: tuple[str, ...] = ()
    note: str = ""
    checksum: str = ""

    def __post_init__(self) -> None:
        if not self.filename:
            object.__setattr__(self, "filename", self.uri.rsplit("/", 1)[-1])

    @property
    def digest(self) -> str:
        """What the file is verified by, as ``<kind>:<hex>``; empty where nothing was published."""
        return f"sha256:{self.sha256}" if self.sha256 else self.checksum


State = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network that turns views of a window into one feature row.

    Parameters
    ----------
    name
        unique, lower case: what the user types and the store's keys begin with
    view
        what it eats; a tuple for a network that eats several views of the same window
    dims
        shape of one feature row
    build
        makes the ``torch.nn.Module``, without weights, in eval shape: its forward takes the prepared view(s),
        ``(n, t, 3, h, w)`` float for Frames and ``(n, frames, bands)`` or ``(n, samples)`` for Sound,
        and gives ``(n, *dims)``. torch is imported inside, not at the top of the file
    weights
        alternatives first: each entry is a tuple of publications of the *same* trained weights in different files;
        all entries are needed (most networks need one)
    adapt
        turns what the files hold (one state per entry of `weights`) into the module's state dict; None: as it is
    window_s
        seconds of one window the network was trained on
    hop_s
        seconds between two rows as the network's own release makes them (recipe ``native``); None: `window_s`
    batch
        rows per forward: fixed, so that a row's bits never depend on its neighbours
    params, gmacs
        parameters of the feature network, multiply-adds of one row in units of 1e9
    known
        name of a known-answer vector for the official weights (see backbones.testing), or None
    paper, note
        where it comes from; what a user must know
    extra
        what to install beyond the basics: ``pip install 'extract-av[<extra>]'``; empty: nothing
    """

    name: str
    view: View | tuple[View, ...]
    dims: tuple[int, ...]
    build: Callable[[], torch.nn.Module]
    weights: tuple[tuple[Weights, ...], ...]
    adapt: Callable[[tuple[State, ...]], State] | None = None
    window_s: float = 1.0
    hop_s: float | None = None
    batch: int = 8
    params: int = 0
    gmacs: float = 0.0
    known: str | None = None
    paper: str = ""
    note: str = ""
    extra: str = ""

    def __reduce__(self) -> tuple[Callable[[str], Backbone], tuple[str]]:
        """Travel to worker processes by name; what a plug-in registers must be registered there too."""
        from backbones import registry

        if registry.get(self.name) != self:
            raise ValueError(f"backbone {self.name!r} differs from the registered one and cannot travel by name")
        return registry.get, (self.name,)

    @property
    def views(self) -> tuple[View, ...]:
        """The views as a tuple, also where there is only one."""
        return self.view if isinstance(self.view, tuple) else (self.view,)

    @property
    def modality(self) -> str:
        """``visual``, ``audio`` or ``audio-visual``."""
        kinds = {"visual" if isinstance(view, Frames) else "audio" for view in self.views}
        return "audio-visual" if len(kinds) == 2 else kinds.pop()
