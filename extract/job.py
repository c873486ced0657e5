"""A manifest, a plan and a store: everything a run is about, before it runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from extract.errors import PlanError
from extract.plan import Limits, Plan
from manifests.clip import Clip
from manifests.files import absent, locate


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user chose, as given: enough to run the same again.

    Parameters
    ----------
    recipe
        name; empty: the recipe that claims the manifest
    backbones
        names; empty: those of the recipe
    hop_ns
        between the starts of two rows; None: as the recipe has it
    weights, allow_unverified, precision, storage, missing_audio
        see extract.recipes.make_plan
    videos
        folder that the manifest's paths count from; empty: the manifest's own
    only
        clip ids; empty: all
    limit
        at most so many clips, the first ones; None: all
    max_pixels, max_seconds, max_frames
        limits per file; None: the defaults of extract.plan.Limits
    """

    recipe: str = ""
    backbones: tuple[str, ...] = ()
    hop_ns: int | None = None
    weights: str = "official"
    allow_unverified: bool = False
    precision: str = "float32"
    storage: str = "float32"
    missing_audio: str = "mask"
    videos: str = ""
    only: tuple[str, ...] = ()
    limit: int | None = None
    max_pixels: int | None = None
    max_seconds: float | None = None
    max_frames: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A plan for the clips of a manifest.

    Parameters
    ----------
    manifest
        its path
    listed
        every clip of the manifest
    clips
        to be computed: those of `listed` that were chosen
    paths
        file of each chosen clip, by clip id
    plan
        what to compute of each
    store
        folder of the store
    choices
        what it was made from
    """

    manifest: Path
    listed: tuple[Clip, ...] = field(repr=False)
    clips: tuple[Clip, ...] = field(repr=False)
    paths: dict[str, str] = field(repr=False)
    plan: Plan
    store: Path
    choices: Choices

    @property
    def missing(self) -> tuple[Clip, ...]:
        """Clips whose file is not there."""
        missing = absent(self.paths.values())
        return tuple(clip for clip in self.clips if self.paths[clip.clip_id] in missing) if missing else ()

    @property
    def manifest_sha256(self) -> str:
        """Digest of the manifest file."""
        return hashlib.sha256(self.manifest.read_bytes()).hexdigest()


def make_job(manifest: Path, choices: Choices, store: Path | None = None) -> Job:
    """Read a manifest and make the plan for it. Nothing is computed, and no media file is opened.

    Raises
    ------
    ManifestError, UnknownName, PlanError, WeightsError
        what the user must set right first
    """
    from extract import recipes
    from manifests.clip import read_manifest

    listed = tuple(read_manifest(manifest))
    clips = _chosen(listed, choices)
    recipe = recipes.get(choices.recipe) if choices.recipe else recipes.default_for(listed)
    plan = recipes.make_plan(
        recipe,
        backbones=choices.backbones,
        hop_ns=choices.hop_ns,
        weights=choices.weights,
        allow_unverified=choices.allow_unverified,
        precision=choices.precision,  # type: ignore[arg-type]
        storage=choices.storage,  # type: ignore[arg-type]
        missing_audio=choices.missing_audio,  # type: ignore[arg-type]
        limits=limits_of(choices),
    )
    videos = Path(choices.videos) if choices.videos else None
    if videos is not None and not videos.is_dir():
        raise PlanError(f"--videos {videos}: there is no such folder")
    files = locate((clip.path for clip in clips), manifest, videos)
    paths = dict(zip((clip.clip_id for clip in clips), files, strict=True))
    return Job(manifest, listed, clips, paths, plan, store or Path("features") / manifest.stem, choices)


def limits_of(choices: Choices) -> Limits:
    """The limits that were chosen; the defaults where none were."""
    given = {"pixels": choices.max_pixels, "seconds": choices.max_seconds, "frames": choices.max_frames}
    return replace(Limits(), **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _chosen(clips: tuple[Clip, ...], choices: Choices) -> tuple[Clip, ...]:
    if choices.only:
        known = {clip.clip_id for clip in clips}
        unknown = [clip_id for clip_id in choices.only if clip_id not in known]
        if unknown:
            from extract.errors import nearest

            raise nearest(unknown[0], sorted(known)[:10_000], "clip of the manifest")
        wanted = frozenset(choices.only)
        clips = tuple(clip for clip in clips if clip.clip_id in wanted)
    return clips[: choices.limit] if choices.limit is not None else clips
