"""Weight files on this machine: the cache folder, digests (each file is hashed once), and downloads that resume."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backbones.spec import Weights
from extract.errors import DigestMismatch, WeightsError, WeightsMissing

CACHE = "EXTRACT_WEIGHTS"
TIMEOUT_S = 30
ATTEMPTS = 4
_BLOCK = 1 << 20
_SCHEMES = ("https:", "http:", "file:")


def cache_folder() -> Path:
    """``$EXTRACT_WEIGHTS``, or ``~/.cache/extract/weights``; need not exist."""
    return Path(os.environ.get(CACHE) or "~/.cache/extract/weights").expanduser().absolute()


def hub_folder() -> Path:
    """Where torch.hub keeps its downloads; looked at, never written to."""
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")
    return Path(home).expanduser().absolute() / "hub" / "checkpoints"


def file_sha256(path: Path) -> str:
    """Lower-case hex digest of a file; remembered in the cache folder by path, size and times, so that it costs once."""
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    ledger = cache_folder() / "digests.json"
    known = _read_ledger(ledger)
    entry = known.get(str(path.absolute()))
    if isinstance(entry, dict) and entry.get("stamp") == stamp and isinstance(entry.get("sha256"), str):
        return str(entry["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known[str(path.absolute())] = {"stamp": stamp, "sha256": digest}
    # a cache that cannot be written costs time and nothing else
    with contextlib.suppress(OSError):
        _write_ledger(ledger, known)
    return digest


def matches(path: Path, weights: Weights) -> bool:
    """Whether the file is the published one: its digest begins with the published digits."""
    return weights.sha256 is not None and file_sha256(path).startswith(weights.sha256)


def download(weights: Weights) -> Path:
    """Bring a published file into the cache folder: its address, then its mirrors; resumed where a transfer broke off.

    Returns
    -------
    Path
        the complete file, its content checked wherever a digest was published

    Raises
    ------
    WeightsMissing
        no address answered; names the file, the addresses, the digest and the folder to put the file in by hand
    DigestMismatch
        what was served is not the published file
    WeightsError
        the cache folder cannot be written
    """
    folder = cache_folder()
    target = folder / weights.filename
    wrong: list[str] = []
    failures: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{weights.filename}.lock"):
            if target.is_file() and (weights.sha256 is None or matches(target, weights)):
                return target  # another process was faster
            part = folder / f"{weights.filename}.part"
            if weights.sha256 is None:
                part.unlink(missing_ok=True)  # nothing could tell whether two halves belong together
            for url in (weights.uri, *weights.mirrors):
                resumed = part.is_file()
                problem, got = _fetch(url, part)
                if not problem and resumed and not _is(got, weights):
                    part.unlink()  # the older half was of something else
                    problem, got = _fetch(url, part)
                if problem:
                    failures.append(f"{url}: {problem}")
                elif not _is(got, weights):
                    wrong.append(f"{url} served sha256 {got}")
                    part.unlink()
                else:
                    part.replace(target)
                    return target
    except OSError as error:
        raise WeightsError(f"cannot write {target}: {error}; set {CACHE} to a folder that can be written") from error
    if wrong:
        raise DigestMismatch(
            f"{weights.filename} is published with sha256 {weights.sha256}, but {'; '.join(wrong + failures)}"
        )
    raise WeightsMissing(missing(weights, failures))


def missing(weights: Weights, failures: list[str]) -> str:
    """What to tell a user who lacks the file: its name, addresses, digest and the folder to put it in."""
    digest = (
        f"sha256 {weights.sha256}{'' if len(weights.sha256) == 64 else '…'}" if weights.sha256 else "none published"
    )
    lines = [
        f"the weight file {weights.filename} is not on this machine",
        f"  published at: {' or '.join((weights.uri, *weights.mirrors))}",
        f"  digest: {digest}",
        f"  put it into: {cache_folder()} (or set {CACHE}, or give its folder with --weights DIR)",
        "  without trained weights: --weights random:0",
    ]
    return "\n".join([*lines, *(f"  tried {failure}" for failure in failures)])


def _fetch(url: str, part: Path) -> tuple[str, str]:
    """Transfer `url` into `part`. Returns what went wrong, or an empty string, and the digest of the whole file."""
    problem = _transfer(url, part)
    return problem, "" if problem else _sha256(part)


def _is(digest: str, weights: Weights) -> bool:
    return weights.sha256 is None or digest.startswith(weights.sha256)


def _transfer(url: str, part: Path) -> str:
    """Fetch `url` into `part`, going on from what is there. Returns what went wrong, or an empty string."""
    if not url.startswith(_SCHEMES):
        return "only https, http and file addresses are fetched"
    problem = "nothing was tried"
    for _ in range(ATTEMPTS):
        have = part.stat().st_size if part.is_file() else 0
        request = urllib.request.Request(url, headers={"User-Agent": "extract-av"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return ""  # it was complete, only not yet renamed
                part.unlink()
                continue
            return f"HTTP {error.code} {error.reason}"
        except urllib.error.URLError as error:
            return str(error.reason)
        except (http.client.HTTPException, OSError) as error:
            problem = repr(error)
            continue
        with response:
            try:
                _receive(response, part, have)
            except _CutError as error:
                problem = str(error)
            else:
                return ""
    return problem


class _CutError(Exception):
    """The connection ended before the file did."""


def _receive(response: Any, part: Path, have: int) -> None:
    from tqdm import tqdm

    if getattr(response, "status", None) != http.HTTPStatus.PARTIAL_CONTENT:
        have = 0  # the server does not resume: it sends the whole file
    length = response.headers.get("Content-Length")
    total = have + int(length) if length is not None else None
    name = part.name.removesuffix(".part")
    bar = tqdm(desc=name, total=total, initial=have, unit="B", unit_scale=True, disable=not sys.stderr.isatty())
    with bar, part.open("r+b" if have else "wb") as out:
        out.seek(have)
        out.truncate()
        while True:
            try:
                block = response.read(_BLOCK)
            except (http.client.HTTPException, OSError) as error:
                raise _CutError(f"cut off after {out.tell()} of {total} bytes ({error!r})") from error
            if not block:
                break
            out.write(block)
            bar.update(len(block))
        size = out.tell()
        out.flush()
        os.fsync(out.fileno())
    if total is not None and size != total:
        raise _CutError(f"cut off after {size} of {total} bytes")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
