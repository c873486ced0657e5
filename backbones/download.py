"""Weight files on this machine: the cache folder, digests (each file is hashed once), and downloads."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from backbones.spec import Weights
from backbones.transfer import SCHEMES, transfer
from extract.errors import DigestMismatch, WeightsError, WeightsMissing

CACHE = "EXTRACT_WEIGHTS"
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """``$EXTRACT_WEIGHTS``, or ``~/.cache/extract/weights``; need not exist."""
    return Path(os.environ.get(CACHE) or "~/.cache/extract/weights").expanduser().absolute()


def hub_folder() -> Path:
    """Where torch.hub keeps its downloads; looked at, never written to."""
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")
    return Path(home).expanduser().absolute() / "hub" / "checkpoints"


def file_sha256(path: Path) -> str:
    """Lower-case hex sha256 of a file; remembered, see `file_digest`."""
    return file_digest(path, "sha256")


def file_digest(path: Path, kind: str) -> str:
    """Lower-case hex digest of a file; remembered in the cache folder by path, size and times, so that it costs once.

    Parameters
    ----------
    path
        of the file
    kind
        ``sha256``, ``sha1``, ``md5``, or ``git``: the id of its content as a git blob
    """
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    ledger = cache_folder() / "digests.json"
    known = _read_ledger(ledger)
    entry = known.get(str(path.absolute()))
    if not isinstance(entry, dict) or entry.get("stamp") != stamp:
        entry = {"stamp": stamp}
    if isinstance(entry.get(kind), str):
        return str(entry[kind])
    digest = _digest(path, kind)
    known[str(path.absolute())] = entry | {kind: digest}
    # a cache that cannot be written costs time and nothing else
    with contextlib.suppress(OSError):
        _write_ledger(ledger, known)
    return digest


def _digest(path: Path, kind: str) -> str:
    # md5 and sha1 are what some publishers gave, and say that a file is theirs and whole; nothing is kept secret with them
    digest = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    if kind == "git":
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def matches(path: Path, weights: Weights) -> bool:
    """Whether the file is the published one: its digest begins with the published digits."""
    kind, _, digits = weights.digest.partition(":")
    return bool(digits) and file_digest(path, kind).startswith(digits)


def download(*publications: Weights, bases: Sequence[str] = ()) -> Path:
    """Bring a published file into the cache folder, content checked wherever a digest was published.

    A transfer that broke off is resumed, now or the next time.

    Parameters
    ----------
    publications
        files with the same trained weights, the first that can be had is taken
    bases
        addresses of folders that serve them under their official names (`base_address`); asked for each of them before any
        published address and its mirrors are

    Returns
    -------
    Path
        the complete file

    Raises
    ------
    WeightsMissing
        no address answered; names the file, the addresses, the digest and the folder to put the file in by hand
    DigestMismatch
        what was served is not the published file
    WeightsError
        the cache folder cannot be written
    """
    near = [(weights, [_join(base, weights) for base in bases]) for weights in publications if bases]
    tried: list[_Tried] = []
    wrong: list[str] = []
    for weights, urls in [*near, *((weights, [weights.uri, *weights.mirrors]) for weights in publications)]:
        tried.append(_attempt(weights, urls))
        wrong = [line for each in tried for line in each.wrong]
        if path := tried[-1].path:
            if wrong:
                _log.warning("passed over: %s", "; ".join(wrong))
            return path
    failures = [line for each in tried for line in each.failures]
    if wrong:
        raise DigestMismatch("; ".join([*wrong, *failures]))
    raise WeightsMissing(missing(publications[0], failures))


@dataclass(frozen=True, slots=True)
class _Tried:
    """What came of an attempt: the complete file, or why there is none.

    Parameters
    ----------
    path
        of the file, or None
    failures
        addresses that did not answer, and how
    wrong
        addresses that served something else
    """

    path: Path | None
    failures: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def _attempt(weights: Weights, urls: Sequence[str]) -> _Tried:
    """Fetch a file from the first of `urls` that serves it; raises WeightsError if the cache folder cannot be written."""
    folder = cache_folder()
    target = folder / weights.filename
    wrong: list[str] = []
    failures: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{weights.filename}.lock"):
            if target.is_file() and (not weights.digest or matches(target, weights)):
                return _Tried(target)  # another process was faster
            part = folder / f"{weights.filename}.part"
            if not weights.digest:
                part.unlink(missing_ok=True)  # nothing could tell whether two halves belong together
            for url in urls:
                if _holds_something_else(url, weights):
                    failures.append(f"{url}: is not the file itself; {weights.note}".rstrip("; "))
                    continue
                resumed = part.is_file()
                problem, got = _fetch(url, part, weights)
                if not problem and resumed and not _is(got, weights):
                    part.unlink()  # the older half was of something else
                    problem, got = _fetch(url, part, weights)
                if problem:
                    failures.append(f"{url}: {problem}")
                elif not _is(got, weights):
                    wrong.append(f"{weights.filename} is published with {words(weights)}, but {url} served {got}")
                    part.unlink()
                else:
                    part.replace(target)
                    return _Tried(target, tuple(failures), tuple(wrong))
    except OSError as error:
        raise WeightsError(f"cannot write {target}: {error}; set {CACHE} to a folder that can be written") from error
    return _Tried(None, tuple(failures), tuple(wrong))


def _holds_something_else(url: str, weights: Weights) -> bool:
    """Whether the address is of an archive, or of a form that the user converts: its ending is not that of the file."""
    ending = PurePosixPath(urllib.parse.urlsplit(url).path).suffix
    return ending not in ("", Path(weights.filename).suffix)


def base_address(text: str) -> str:
    """What a user gives to ``--from``, as an address: a web address of a folder, or a folder of this machine.

    Raises
    ------
    WeightsMissing
        there is no such folder
    """
    if text.startswith(SCHEMES):
        return text
    folder = Path(text).expanduser().absolute()
    if "://" in text or not folder.is_dir():
        raise WeightsMissing(f"--from {text}: give a folder that exists, or a web address (https://… or http://…)")
    return folder.as_uri()


def _join(base: str, weights: Weights) -> str:
    """The address of the file in a folder that serves it under its official name."""
    # names that were taken from an address may hold escapes, which are part of the name
    return f"{base.rstrip('/')}/{urllib.parse.quote(weights.filename)}"


def missing(weights: Weights, failures: Sequence[str]) -> str:
    """What to tell a user who lacks the file: its name, addresses, digest and the folder to put it in."""
    lines = [
        f"the weight file {weights.filename} is not on this machine",
        f"  published at: {' or '.join((weights.uri, *weights.mirrors))}",
        f"  digest: {words(weights)}{'…' if weights.sha256 and len(weights.sha256) < 64 else ''}",
        f"  put it into: {cache_folder()} (or set {CACHE}, or give its folder with --weights DIR)",
        "  without trained weights: --weights random:0",
    ]
    return "\n".join([*lines, *(f"  tried {failure}" for failure in failures)])


def words(weights: Weights) -> str:
    """The published digest for people: ``sha256 394f9c45``."""
    return weights.digest.replace(":", " ") or "none published"


def _fetch(url: str, part: Path, weights: Weights) -> tuple[str, str]:
    """Transfer `url` into `part`. Returns what went wrong, or an empty string, and the digest of the whole file."""
    problem = transfer(url, part)
    return problem, "" if problem else _digest(part, weights.digest.partition(":")[0] or "sha256")


def _is(digest: str, weights: Weights) -> bool:
    return digest.startswith(weights.digest.partition(":")[2])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_ledger(ledger: Path) -> dict[str, Any]:
    try:
        known = json.loads(ledger.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_ledger(ledger: Path, known: dict[str, Any]) -> None:
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=ledger.parent, prefix=".digests", delete=False) as file:
        json.dump(known, file, indent=0, sort_keys=True)
    Path(file.name).replace(ledger)
