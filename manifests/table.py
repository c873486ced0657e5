"""Text files in and out: UTF-8 with line numbers in every complaint, CSV tables with a fixed header, atomic writes."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from extract.errors import ManifestError


def read_text(path: Path, what: str = "file") -> str:
    """The whole of a UTF-8 file, without its byte order mark if it has one.

    Raises
    ------
    ManifestError
        the file is missing, a folder, unreadable, or not UTF-8 (the message names line and byte)
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"there is no {what} at {path}") from None
    except OSError as error:
        raise ManifestError(f"cannot read the {what} {path}: {error.strerror or error}") from error
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            f"{path}: line {line}: byte 0x{raw[error.start]:02x} is not UTF-8; save the {what} as UTF-8 and try again"
        ) from None


def read_lines(path: Path, what: str = "annotation file") -> list[tuple[int, str]]:
    """Lines with their numbers from 1, without line ends (LF or CRLF); lines of nothing but blanks are left out."""
    lines = read_text(path, what).split("\n")
    numbered = ((number, line.removesuffix("\r")) for number, line in enumerate(lines, 1))
    return [(number, line) for number, line in numbered if line.strip()]


def read_table(path: Path, header: Sequence[str], what: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV with exactly that header, each with the number of its first line; empty lines are passed over.

    Raises
    ------
    ManifestError
        wrong header, wrong number of columns, or broken quoting
    """
    # The text as bytes, decoded line by line: as a whole it would take four times its size.
    text = io.TextIOWrapper(io.BytesIO(read_text(path, what).encode()), "utf-8", newline="")
    lines = csv.reader(text, strict=True)
    expected, columns = ",".join(header), len(header)
    first, line = True, 1
    try:
        for row in lines:
            if first and row:
                first = False
                if row != list(header):
                    raise ManifestError(
                        f"{path}: line {line}: the header of a {what} must be exactly {expected!r}, not "
                        f"{','.join(row)[:200]!r}; `extract manifest --help` shows how annotation files become manifests"
                    )
            elif row:
                if len(row) != columns:
                    raise ManifestError(f"{path}: line {line}: {len(row)} columns, must be {columns}: {expected}")
                yield line, row
            line = lines.line_num + 1
    except csv.Error as error:
        raise ManifestError(
            f'{path}: line {line}: broken CSV ({error}); a text with commas or quotes is written as in "one, ""two"""'
        ) from None
    if first:
        raise ManifestError(f"{path} is empty; a {what} begins with the header {expected!r}")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV with that header, atomically: readers see the old file or the new one."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically (temporary file beside it, fsync, ``os.replace``); missing folders are made."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ManifestError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
