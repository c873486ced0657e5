"""One file from one address, resumed where it broke off."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

TIMEOUT_S = 30
ATTEMPTS = 4
SCHEMES = ("https:", "http:", "file:")
_BLOCK = 1 << 20


def transfer(url: str, part: Path) -> str:
    """Fetch `url` into `part`, going on from what is there; proxies are those of the environment.

    Returns
    -------
    str
        what went wrong, or an empty string

    Raises
    ------
    OSError
        `part` cannot be written
    """
    import http.client  # here, for they would take a fifth of what listing the zoo takes
    import urllib.error
    import urllib.request

    if not url.startswith(SCHEMES):
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
    import http.client

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
