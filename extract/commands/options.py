"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from extract.errors import ManifestError, PlanError
from extract.job import Choices
from manifests.seconds import to_ns

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
SHORTEST_HOP_NS = 1_000_000  # below it the table of rows alone would fill the memory


def _all(options: list[Any]) -> Decorator:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _hop_ns(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        hop_ns = to_ns(text)
    except ManifestError as error:
        raise PlanError(f"--hop: {error}") from error
    if hop_ns < SHORTEST_HOP_NS:
        raise PlanError(f"--hop {text} is too short: rows lie at least 0.001 s apart, such as 0.1 or 0.96")
    return hop_ns


def _compression(ctx: click.Context, param: click.Parameter, text: str) -> str:
    from extract.store.layout import parse_compression

    return parse_compression(text)


choosing = _all(
    [
        click.option("--recipe", default="", help="See `extract recipes`; default: the one that claims the manifest."),
        click.option("--backbones", default="", help="Comma-separated names; default: those of the recipe."),
        click.option(
            "--hop",
            "hop_ns",
            metavar="SECONDS",
            callback=_hop_ns,
            help="Between two rows; for recipes whose rows may lie anywhere: per-second, native.",
        ),
        click.option(
            "--weights",
            default="official",
            show_default=True,
            help="official (cache, then download), a folder of official files, or random:SEED.",
        ),
        click.option(
            "--allow-unverified-weights",
            "allow_unverified",
            is_flag=True,
            help="Use files whose digest is not the published one; the key says so.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["float32", "bfloat16", "float16"]),
            default="float32",
            show_default=True,
            help="Arithmetic of the networks; part of the key.",
        ),
        click.option(
            "--storage",
            type=click.Choice(["float32", "float16"]),
            default="float32",
            show_default=True,
            help="Type of the stored numbers; part of the key. float16 halves the store, at a cosine above 0.9999.",
        ),
        click.option("--only", multiple=True, help="A clip id; may be given several times."),
        click.option("--limit", type=click.IntRange(min=1), default=None, help="The first so many clips."),
    ]
)

bounding = _all(
    [
        click.option(
            "--missing-audio",
            type=click.Choice(["mask", "skip", "error"]),
            default="mask",
            show_default=True,
            help="Clips without sound: zero rows with valid=0, no rows, or a failure.",
        ),
        click.option(
            "--videos", default="", help="Folder the manifest's paths count from; default: the manifest's own."
        ),
        click.option("--max-pixels", type=click.IntRange(min=1), default=None, help="Per frame; default 40,000,000."),
        click.option("--max-seconds", type=click.FloatRange(min=0.001), default=None, help="Per clip; default 43,200."),
        click.option("--max-frames", type=click.IntRange(min=1), default=None, help="Per clip; default 3,000,000."),
    ]
)

using = _all(
    [
        click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True),
        click.option("--address", default="", help="Of a Ray cluster (with --engine ray); default: start one here."),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="cpu, cuda, cuda:0,cuda:1 ...; auto: every CUDA device of this machine (cpu with --address), else cpu.",
        ),
        click.option("--lanes", type=click.IntRange(min=1), default=None, help="Processes; default: one per device."),
        click.option(
            "--batch", type=click.IntRange(min=1), default=None, help="Rows per forward; default: per network."
        ),
        click.option(
            "--decode-threads",
            type=click.IntRange(min=1),
            default=2,
            show_default=True,
            help="Clips decoded at once, per lane.",
        ),
        click.option(
            "--threads", type=click.IntRange(min=1), default=None, help="Per operator on a CPU; default: cores / lanes."
        ),
        click.option(
            "--chunk", type=click.IntRange(min=1), default=64, show_default=True, help="Clips per part of the store."
        ),
        click.option(
            "--seal-seconds",
            type=click.FloatRange(min=0.1),
            default=30.0,
            show_default=True,
            help="What a kill may cost, per lane.",
        ),
        click.option(
            "--compression",
            callback=_compression,
            default="none",
            show_default=True,
            help="Of the stored data: none, gzip, or gzip:1 to gzip:9. It changes no number and no key.",
        ),
        click.option(
            "--compile",
            type=click.Choice(["off", "on", "auto"]),
            default="off",
            show_default=True,
            help="Compile the networks first: a few per cent faster, a minute each; auto: where this run is long enough.",
        ),
    ]
)

out = click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=None, help="The store; default: features/<manifest>."
)


def choices(options: dict[str, Any]) -> Choices:
    """The user's choices out of a command's options; they are taken out of `options`."""
    names = Choices.__dataclass_fields__
    chosen = {name: options.pop(name) for name in names}
    chosen["backbones"] = tuple(name.strip() for name in chosen["backbones"].split(",") if name.strip())
    if chosen["videos"]:
        chosen["videos"] = str(Path(chosen["videos"]).absolute())
    if chosen["weights"] != "official" and not chosen["weights"].startswith("random:"):
        # a folder: `retry` and the lanes of a cluster have other working directories
        chosen["weights"] = str(Path(chosen["weights"]).expanduser().absolute()) if chosen["weights"] else ""
    return Choices(**chosen)


def machine(options: dict[str, Any]) -> Any:
    """How to use the machine, out of a command's options.

    Raises
    ------
    DeviceUnavailable
        a CUDA device was asked for and is not here
    """
    from extract.running import Machine

    return Machine(
        engine=options["engine"],
        devices=devices(options["device"], options["lanes"], options["engine"], options["address"]),
        address=options["address"],
        batch=options["batch"],
        decode_threads=options["decode_threads"],
        torch_threads=options["threads"],
        chunk=options["chunk"],
        seal_s=options["seal_seconds"],
        compile=options["compile"],
        compression=options["compression"],
    )


def devices(text: str, lanes: int | None, engine: str, address: str = "") -> tuple[str, ...]:
    """One device per lane, shared in turn where there are more lanes than devices.

    Parameters
    ----------
    text
        ``auto``, ``cpu``, ``cuda`` or a list of devices
    lanes
        how many; None: one per device
    engine, address
        lanes on another machine (of a Ray cluster with an address) have devices that cannot be looked at from here

    Raises
    ------
    PlanError
        no device is named
    """
    if text == "auto":
        names = [f"cuda:{i}" for i in range(0 if engine == "ray" and address else _cuda_count())] or ["cpu"]
    elif text == "cuda":
        names = [f"cuda:{i}" for i in range(_cuda_count())] or ["cuda:0"]
    else:
        names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise PlanError(f"--device {text!r} names no device; use auto, cpu, cuda, or a list such as cuda:0,cuda:1")
    return tuple(names[i % len(names)] for i in range(lanes or len(names)))


def _cuda_count() -> int:
    """CUDA devices, asked of the driver: importing torch for it would cost a second."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
