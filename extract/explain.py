"""Plans and summaries in words, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backbones.spec import Frames, View
from extract.grid import NS, Grid
from extract.job import Job
from extract.summary import Summary

SHOWN = 10
ASSUMED_S = 10.0  # length of a clip whose end the manifest leaves open, for the estimate only


def job(what: Job) -> str:
    """A job as `extract plan` prints it."""
    spans = Counter(_span_ns(clip.start_ns, clip.stop_ns) for clip in what.clips)
    seconds = sum(span * clips for span, clips in spans.items()) / NS
    open_ends = sum(clip.stop_ns is None for clip in what.clips)
    assumed = f" (taking {ASSUMED_S:g} s for the {open_ends} that run to the end of their file)" if open_ends else ""
    lines = [
        f"manifest  {what.manifest}: {len(what.clips)} clips, about {seconds / 3600:.2f} h{assumed}",
        f"recipe    {what.plan.recipe}",
        f"store     {what.store}",
        f"to do     {_todo(what)}",
        "",
        "one decode per clip gives these views:",
    ]
    taps = what.plan.taps(what.plan.keys)
    lines += [
        f"  {number}. {view_line(tap.view)}; {grid_line(tap.grid, tap.view)}" for number, tap in enumerate(taps, 1)
    ]
    lines += ["", f"{'backbone':34}{'rows/clip':>10}{'MB/clip':>9}{'GMAC/clip':>11}  weights"]
    total_mb = total_gmac = 0.0
    for feature in what.plan.features:
        rows = sum(feature.grid.rows(span) * clips for span, clips in spans.items()) / max(1, len(what.clips))
        mb, gmac = rows * float(np.prod(feature.backbone.dims)) * 4 / 1e6, rows * feature.gmacs
        total_mb, total_gmac = total_mb + mb, total_gmac + gmac
        lines.append(f"{feature.key:34}{rows:10.1f}{mb:9.3f}{gmac:11.1f}  {feature.weights_id}")
    lines.append(
        f"{'in all':34}{'':10}{total_mb:9.3f}{total_gmac:11.1f}  "
        f"= {total_mb * len(what.clips) / 1e3:.2f} GB, {total_gmac * len(what.clips) / 1e6:.2f} PMAC for the manifest"
    )
    return "\n".join([*lines, "", *_times(total_gmac * len(what.clips)), *missing_lines(what)])


def missing_lines(what: Job) -> list[str]:
    """How many files are not there, and the first of them."""
    missing = what.missing
    if not missing:
        return ["every file is there"]
    shown = [f"  {clip.clip_id}: {what.paths[clip.clip_id]}" for clip in missing[:SHOWN]]
    more = [f"  ... and {len(missing) - SHOWN} more"] if len(missing) > SHOWN else []
    hint = [] if what.choices.videos else ["  paths count from the manifest's folder; --videos DIR names another one"]
    return [
        f"{len(missing)} of {len(what.clips)} files are missing; they will be recorded as not_found:",
        *shown,
        *more,
        *hint,
    ]


def view_line(view: View) -> str:
    """A view in one line."""
    if isinstance(view, Frames):
        if view.resize == "openl3":
            size = "as openl3 resizes"
        elif isinstance(view.resize, int):
            size = f"short side {view.resize}"
        else:
            size = "squash {}x{}".format(*view.resize)
        crop = f", centre crop {view.crop}" if view.crop else ""
        jpeg = ", through mjpeg at 200 kb/s" if view.jpeg else ""
        return f"{view.count} RGB frame{'s' * (view.count > 1)}, {size}{crop}, {view.interpolation}{jpeg}"
    mel = (
        f", {view.spectrogram.bands} {'log-mel bands' if view.spectrogram.n_mels else 'bins'}"
        if view.spectrogram
        else ""
    )
    return f"{view.samples} samples at {view.rate_hz} Hz ({view.resample}){mel}"


def grid_line(grid: Grid, view: View) -> str:
    """A grid in a few words."""
    rows = f"{grid.count} rows" if grid.count else f"a row every {grid.hop_ns / NS:g} s"
    rule = f", frames by {grid.sampling}" if isinstance(view, Frames) else ""
    return f"{rows} of {grid.window_ns / NS:g} s{rule}, short clips: {grid.short}"


def summary(done: Summary, store: Path) -> str:
    """A summary as `extract run` prints it at its end."""
    lines = [
        f"{done.asked} clips: {done.complete} complete, {done.masked} masked, {done.failed} failed"
        + (f", {done.left} left to do" if done.left else "")
        + f"; {done.computed} computed in this run"
        + (f", {done.deaths} worker(s) died" if done.deaths else "")
    ]
    lines += [f"  failed  {reason}: {count}" for reason, count in done.reasons.items()]
    lines += [f"  masked  {reason}: {count}" for reason, count in done.masked_reasons.items()]
    if done.computed:
        wall = done.seconds.get("wall", 0.0)
        stages = ", ".join(f"{name} {done.seconds[name]:.1f}" for name in STAGES if name in done.seconds)
        lines.append(
            f"  seconds {wall:.1f} wall ({done.computed / max(wall, 1e-9):.2f} clips/s); over all lanes: {stages}"
        )
    lines += [f"  {name}: {value:.6f}" for name, value in sorted(done.notes.items())]
    lines.append(f"  store   {store}, {done.size_bytes / 1e6:.1f} MB")
    return "\n".join(lines)


STAGES = ("decode", "wait", "prepare", "model", "seal")


def _todo(what: Job) -> str:
    if not (what.store / "parts").is_dir():
        return f"{len(what.clips)} clips x {len(what.plan.keys)} backbones; the store does not exist yet"
    from extract.store.catalog import Catalog

    ids = [clip.clip_id for clip in what.clips]
    lacks = ~Catalog(what.store, strict=False).settled(ids, what.plan.keys)
    return f"{lacks.any(axis=1).sum()} clips, {lacks.sum()} (clip, backbone) pairs; the rest is in the store"


def _times(gmac: float) -> list[str]:
    from extract.rates import remembered_rate

    rate = remembered_rate()
    if rate is None:
        return ["time: unknown on this machine; a run or `extract bench` measures its rate"]
    return [
        f"time: about {_duration(gmac / rate.gmac_per_s)} by the rate of the last run here ({rate.gmac_per_s:.0f} GMAC/s)"
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _span_ns(start_ns: int, stop_ns: int | None) -> int:
    return round(ASSUMED_S * NS) if stop_ns is None else stop_ns - start_ns


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, the first left-aligned and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
