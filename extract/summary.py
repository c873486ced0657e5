"""What a run did, and how the clips of its job stand afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from extract.job import Job
from extract.store.catalog import Store
from extract.store.rows import Remark
from extract.todo import settled


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


def take_stock(job: Job, summary: Summary) -> None:
    """Count how the clips of a job stand in its store."""
    store = Store(job.store)
    wanted, keys = job.paths.keys(), set(job.plan.keys)
    failed = [each for each in store.failed() if each.clip_id in wanted and each.key in keys]
    masked = [each for each in store.masked() if each.clip_id in wanted and each.key in keys]
    done, nothing = settled(store), frozenset[str]()
    failed_clips, masked_clips = {each.clip_id for each in failed}, {each.clip_id for each in masked}
    for clip_id in wanted:
        if clip_id in failed_clips:
            summary.failed += 1
        elif not keys <= done.get(clip_id, nothing):
            summary.left += 1
        elif clip_id in masked_clips:
            summary.masked += 1
        else:
            summary.complete += 1
    summary.reasons = by_reason(failed)
    summary.masked_reasons = by_reason(masked)
    summary.size_bytes = size_bytes(store)


def by_reason(remarks: Iterable[Remark]) -> dict[str, int]:
    """Clips by reason, the most frequent first."""
    clips = {(remark.reason, remark.clip_id) for remark in remarks}
    return dict(Counter(reason for reason, _ in sorted(clips)).most_common())


def size_bytes(store: Store) -> int:
    """Of all parts of a store."""
    return sum(path.stat().st_size for path in (store.path / "parts").glob("*.h5"))
