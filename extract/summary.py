"""What a run did, and how the clips of its job stand afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field

from extract.job import Job
from extract.store.catalog import Catalog


@dataclass(slots=True)
class Summary:
    """What a run did, and how its manifest stands now.

    Parameters
    ----------
    asked
        clips of the manifest that the run was about: the sum of the next four
    complete, masked, failed, left
        clips with every key; with every key, some rows of which a policy filled or left out; with a key that failed; with
        a key that is still to be computed. By clip, and now, not in this run alone
    computed
        clips that left a lane in this run
    reasons
        clips that failed, by reason; `masked_reasons` likewise
    seconds
        by stage, summed over lanes; ``wall`` of the run
    size_bytes
        of the store
    notes
        such as the cosine of a reduced precision to float32
    deaths
        worker processes lost
    interrupted
        the run was asked to stop before its end
    """

    asked: int
    complete: int = 0
    masked: int = 0
    failed: int = 0
    left: int = 0
    computed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    masked_reasons: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    size_bytes: int = 0
    notes: dict[str, float] = field(default_factory=dict)
    deaths: int = 0
    interrupted: bool = False


def take_stock(job: Job, summary: Summary, store: Catalog | None = None) -> None:
    """Count how the clips of a job stand in its store; `store` where it is open already."""
    store = Catalog(job.store) if store is None else store
    ids, keys = [clip.clip_id for clip in job.clips], job.plan.keys
    has_failed, summary.reasons = store.remarked("failed", ids, keys)
    has_masked, summary.masked_reasons = store.remarked("masked", ids, keys)
    left = ~store.settled(ids, keys).all(axis=1) & ~has_failed
    summary.failed = int(has_failed.sum())
    summary.left = int(left.sum())
    summary.masked = int((has_masked & ~has_failed & ~left).sum())
    summary.complete = len(job.clips) - summary.failed - summary.left - summary.masked
    summary.size_bytes = store.size_bytes()
