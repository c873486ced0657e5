"""Made-up LLP in which it is known which two backbones work best together: a truth to try search methods on.

After the paper's finding about PolyNet, the visual backbone that is the strongest alone confuses the same classes as the audio
backbones do, and so adds little to them; one that is weaker alone confuses others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from extract.store import Store
from pipelines.parsing.data import Split, load_split, resolve_keys
from pipelines.parsing.synthetic.make import make_synthetic
from pipelines.parsing.synthetic.scenes import Scene
from pipelines.parsing.synthetic.stand_ins import StandIn
from pipelines.parsing.task import task_of

AUDIO = ("vggish", "openl3_audio_mel256_env_512")
VISUAL = ("resnet152", "vgg19_bn", "senet154", "polynet", "openl3_image_mel256_env_512")
SIZES: Mapping[str, int] = {"train": 600, "val": 300, "test": 400}
"""Clips by split."""
DIMS = (128, 256)
"""Numbers in a second of an audio and of a visual backbone."""
SCENE = Scene(together=0.8, shifted=0.1, off_screen=0.06, silent=0.04)
"""Twice as many events as in LLP are heard and seen at once, so that it matters more how two backbones fit."""
# (strength, shared) of StandIn, from the strongest on; the place of the best in these tables is the truth
_HEARD = ((6.0, 1.0), (3.0, 1.0))
_SEEN = ((8.0, 1.0), (6.0, 0.75), (5.5, 0.0), (4.5, 0.5), (3.2, 0.0))
_BEST = (0, 2)
_RIDGE = 0.1


@dataclass(frozen=True, slots=True)
class Planted:
    """A store, and what is true of its backbones. Pairs are named ``AUDIO+VISUAL``.

    Parameters
    ----------
    store
        its folder
    audio, visual
        backbones, in an order that tells nothing
    best
        the pair that works best together
    best_singles
        the pair of the two that are the strongest alone
    strengths
        by backbone: its :class:`~pipelines.parsing.synthetic.stand_ins.StandIn`'s signal to noise
    fits
        by pair, 0..1: the share of the classes that the two do not confuse alike
    """

    store: Path
    audio: tuple[str, ...]
    visual: tuple[str, ...]
    best: str
    best_singles: str
    strengths: Mapping[str, float]
    fits: Mapping[str, float]

    @property
    def pairs(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(f"{heard}+{seen}" for heard, seen in product(self.audio, self.visual))


def plant(
    folder: Path,
    seed: int,
    *,
    sizes: Mapping[str, int] = SIZES,
    dims: tuple[int, int] = DIMS,
    scene: Scene = SCENE,
    on_clip: Callable[[int, int], None] = lambda done, clips: None,
) -> Planted:
    """Make such a store of 2 audio and 5 visual backbones, or find that it is there.

    Which name has which part is drawn from the seed, so neither names nor their order tell the best.

    Parameters
    ----------
    folder
        of the store
    seed
        of the clips, the features and the parts, from 0 on
    sizes
        clips of train, val and test
    dims
        numbers in a second of audio and of visual backbones
    scene
        how clips come about
    on_clip
        told how many clips are done, of how many

    Raises
    ------
    PlanError, StoreError
        as :func:`pipelines.parsing.synthetic.make.make_synthetic`

    Notes
    -----
    The strongest visual backbone has a fit of 0 with both audio ones, the best one of 1. docs/results.md says how many points
    that makes in trained parsers.
    """
    if seed < 0:
        raise PlanError(f"the seed is {seed}; it must not be negative")
    rng = np.random.default_rng([seed, 5])
    heard = _drawn(rng, AUDIO, _HEARD)
    seen = _drawn(rng, VISUAL, _SEEN)
    make_synthetic(
        folder,
        "avvp",
        sizes=sizes,
        seed=seed,
        audio=[StandIn(name, "audio", dims[:1], *heard[name], confusion=1.0, zeros=0.6) for name in AUDIO],
        visual=[StandIn(name, "visual", dims[1:], *seen[name], confusion=1.0) for name in VISUAL],
        clip="",
        scene=scene,
        on_clip=on_clip,
    )
    return Planted(
        folder,
        AUDIO,
        VISUAL,
        _pair(heard, _HEARD[_BEST[0]], seen, _SEEN[_BEST[1]]),
        _pair(heard, max(_HEARD), seen, max(_SEEN)),
        {name: strength for name, (strength, _) in {**heard, **seen}.items()},
        {f"{one}+{other}": 1 - min(heard[one][1], seen[other][1]) for one, other in product(AUDIO, VISUAL)},
    )


def single_scores(planted: Planted) -> dict[str, float]:
    """How good each backbone is alone, as a linear probe finds it.

    The probe tells what is heard (seen) from the seconds of val and test in which one class is heard (seen). It is fitted to
    val and asked about test, and the other way round. Table 2 of the paper is of this kind.

    Parameters
    ----------
    planted
        val and test each need 2 such seconds or more

    Returns
    -------
    dict
        by backbone: percent of the seconds in which it is right

    Raises
    ------
    PlanError
        there are fewer
    """
    store, task = Store(planted.store), task_of("avvp")
    found = {}
    for slot, names in (("audio", planted.audio), ("visual", planted.visual)):
        for name in names:
            keys = resolve_keys(store, {slot: name})
            val, test = (_labelled(load_split(store, task, keys, split), slot) for split in ("val", "test"))
            right = np.concatenate([_right(val, test), _right(test, val)])
            found[name] = 100 * float(right.mean())
    return found


Labelled = tuple[NDArray[np.float64], NDArray[np.float64]]


def _labelled(split: Split, slot: str) -> Labelled:
    """(n, d) seconds in which one class is there, and (n, C) which."""
    assert split.truth is not None
    truth = split.truth.audio if slot == "audio" else split.truth.visual
    truth = truth.reshape(-1, truth.shape[-1])
    rows = split.features[slot].numpy().reshape(len(truth), -1)
    one = truth.sum(axis=1) == 1
    if one.sum() < 2:
        raise PlanError(
            f"{split.name} has {one.sum()} seconds in which one class is there ({slot}); a probe needs 2: plant more clips"
        )
    return rows[one].astype(np.float64), truth[one].astype(np.float64)


def _right(known: Labelled, asked: Labelled) -> NDArray[np.bool_]:
    """Whether a ridge regression on the known seconds finds the class of each of the others."""
    rows, classes = known
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    kept = scale > 0
    rows, others = ((each[:, kept] - mean[kept]) / scale[kept] for each in (rows, asked[0]))
    weights = np.linalg.solve(
        rows.T @ rows + _RIDGE * len(rows) * np.eye(rows.shape[1]), rows.T @ (classes - classes.mean(axis=0))
    )
    found = (others @ weights + classes.mean(axis=0)).argmax(axis=1)
    right: NDArray[np.bool_] = found == asked[1].argmax(axis=1)
    return right


def _drawn(
    rng: np.random.Generator, names: tuple[str, ...], parts: tuple[tuple[float, float], ...]
) -> dict[str, tuple[float, float]]:
    """A part for every name."""
    return dict(zip(names, (parts[i] for i in rng.permutation(len(parts))), strict=True))


def _pair(
    heard: Mapping[str, tuple[float, float]],
    one: tuple[float, float],
    seen: Mapping[str, tuple[float, float]],
    other: tuple[float, float],
) -> str:
    """The name of the pair that has these parts."""
    first = next(name for name, part in heard.items() if part == one)
    second = next(name for name, part in seen.items() if part == other)
    return f"{first}+{second}"
