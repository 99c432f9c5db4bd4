"""Whether text steers strokes: drawn segments before a judge.

For held-out (instruction, canvas) pairs the decoder draws the segment, one candidate. The judge
(`hitree_training.train_judge`), which served neither training nor ranking, says whether it fits
its own instruction better than a wrong one: the same part with the opposite trait where the text
has one, else another part of the subject.

Three rows lie beside it. The annotators' own segments tell how reliable the judge is. Segments that
are drawn without any text, under the subject alone, tell what habit is worth: that ears are mostly
big, and that heads follow bodies. And segments that are drawn under the opposite trait, against
that habit, are to be preferred under the opposite.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal  # Any: JSON

import numpy as np
import torch

from hitree.drawing import Drawing
from hitree.segments import stroke_features
from hitree_training import data, sample
from hitree_training.evaluation.bootstrap import RESAMPLES, interval
from hitree_training.evaluation.foils import Foil, Parts, opposites
from hitree_training.pairs import token_batch
from hitree_training.sample import Request, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from hitree_training.annotations import Annotation, Step
    from hitree_training.data import Example, Kind
    from hitree_training.models.decoder import SketchDecoder
    from hitree_training.models.judge import Judge

KINDS: tuple[Kind, ...] = ("real", "drawn")  # no sampled drawing is annotated in valid or test
CASES = 200
DRAWS = 3  # of every case, each of one candidate: what one draw tells is mostly luck

Row = Literal["drawn", "turned", "untold", "human"]


@dataclass(frozen=True)
class Case:
    """One instruction on a canvas, and a wrong one."""

    example: Example
    step: Step
    foil: Foil

    @property
    def turned(self) -> Case:
        """The same case the other way round: the wrong instruction as the one to draw."""
        foil = Foil(self.step.text, self.foil.kind, self.foil.trait)
        return Case(self.example, replace(self.step, text=self.foil.text), foil)

    @property
    def canvas(self) -> Drawing | None:
        """The strokes before the step; None for the first step."""
        strokes = self.example.drawing.strokes[: self.step.start]
        return Drawing(strokes) if strokes else None

    @property
    def request(self) -> Request:
        """What the decoder is asked for."""
        root = self.example.annotation.root if self.example.annotation else ""
        steps, more = (self.step.text,), self.step.end < len(self.example.drawing.strokes)
        return Request(self.example.subject, root, steps, self.canvas, whole=not more)

    @property
    def human(self) -> Drawing:
        """The canvas and the annotated segment."""
        return Drawing(self.example.drawing.strokes[: self.step.end])


@dataclass(frozen=True)
class Verdict:
    """What the judge said of a case."""

    case: Case
    own: float  # share of its segments that fit their own instruction better than the wrong one


def measure(
    decoder: SketchDecoder,
    judge: Judge,
    folder: Path | None,
    *,
    split: str = "test",
    cases: int = CASES,
    draws: int = DRAWS,
    by: Sampling = Sampling(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Draw the cases of a split and let the judge decide; return figures.

    Raises:
        hitree_training.data.DataError: there are no drawings of this split.
    """
    chosen = choose(folder, split, cases, by.seed)
    traits = [case.turned for case in chosen if case.foil.kind == "trait"]
    silent = replace(by, told="subject", guidance=1.0)
    rows: dict[Row, list[Verdict]] = {
        "drawn": judged(judge, chosen, draw(decoder, chosen, by, draws)),
        "turned": judged(judge, traits, draw(decoder, traits, by, draws)),
        "untold": judged(judge, chosen, draw(decoder, chosen, silent, draws)),
        "human": judged(judge, chosen, [[case.human] for case in chosen]),
    }
    return {
        "cases": len(chosen),
        "draws": draws,
        "split": split,
        "data_hash": data.data_hash({c.example.key_id: c.example for c in chosen}.values()),
        "sampling": vars(by),
        "preferred": {row: figures(verdicts, by.seed) for row, verdicts in rows.items()},
    }


def choose(folder: Path | None, split: str, cases: int, seed: int) -> list[Case]:
    """Cases of real and drawn drawings, the same number of each, subjects as alike as can be."""
    parts = Parts([e for e in data.load(folder) if e.annotation])
    found = []
    for kind in KINDS:
        try:
            examples = data.load(folder, kinds=(kind,), splits=(split,))
        except data.DataError:
            continue  # the built-in set has no real drawings
        found.append(_cases([e for e in examples if e.annotation], parts, seed))
    if not found:
        raise data.DataError(f"there are no annotated {split} drawings to steer on")
    return [case for every in found for case in every[: cases // len(found)]]


def _cases(examples: Sequence[Example], parts: Parts, seed: int) -> list[Case]:
    """Every case of some drawings, one subject after the other in turn, each drawing once first."""
    rng = random.Random(seed)
    turns: dict[str, list[tuple[int, int, Case]]] = defaultdict(list)
    for example in sorted(examples, key=lambda e: e.key_id):
        if example.annotation is None:
            continue
        steps = list(example.annotation.steps)
        rng.shuffle(steps)
        made = [_case(example, example.annotation, step, parts, rng) for step in steps]
        for turn, case in enumerate([case for case in made if case]):
            turns[example.subject].append((turn, rng.randrange(1 << 30), case))
    ordered = [sorted(own, key=lambda entry: entry[:2]) for own in turns.values()]
    rng.shuffle(ordered)
    longest = max(map(len, ordered), default=0)
    return [own[at][2] for at in range(longest) for own in ordered if at < len(own)]


def _case(
    example: Example, annotation: Annotation, step: Step, parts: Parts, rng: random.Random
) -> Case | None:
    """A step with a wrong instruction; None where none can be found."""
    wrong = opposites(step.text) or parts.others(example.subject, annotation, step)
    return Case(example, step, rng.choice(wrong)) if wrong else None


def draw(
    decoder: SketchDecoder, cases: Sequence[Case], by: Sampling, draws: int
) -> list[list[Drawing]]:
    """Canvas and segment of every case, as the decoder draws it, several times."""
    made = []
    for at in range(draws):
        seeded = replace(by, seed=by.seed + at)
        made.append(sample.draw(decoder, [case.request for case in cases], seeded))
    return [[one.drawing for one in of_case] for of_case in zip(*made, strict=True)]


@torch.inference_mode()
def judged(
    judge: Judge, cases: Sequence[Case], drawings: Sequence[Sequence[Drawing]]
) -> list[Verdict]:
    """How often each case's last segments fit their own instruction better than the wrong one."""
    found = []
    for case, some in zip(cases, drawings, strict=True):
        texts = judge.texts(*token_batch([case.step.text, case.foil.text]))  # (2, D)
        wins = [_prefers(judge, texts, drawing, case.step.start) for drawing in some]
        found.append(Verdict(case, sum(wins) / len(wins)))
    return found


def _prefers(judge: Judge, texts: Tensor, drawing: Drawing, start: int) -> bool:
    """Whether the strokes from ``start`` on fit the first of two ``texts`` (2, D) better."""
    strokes = torch.from_numpy(stroke_features(drawing))
    span = torch.tensor([[start, len(strokes)]])
    own, wrong = texts @ judge.segments(strokes, span, torch.tensor([0]))[0]
    return bool(own > wrong)


def figures(verdicts: Sequence[Verdict], seed: int) -> dict[str, Any]:
    """The share preferred: of all, by kind of wrong instruction, by trait and by source."""
    groups: dict[str, list[float]] = {}
    for verdict in verdicts:
        foil, kind = verdict.case.foil, verdict.case.example.kind
        traits = [f"trait {foil.trait}"] if foil.trait else []
        for name in ("all", foil.kind, kind, f"{kind} {foil.kind}", *traits):
            groups.setdefault(name, []).append(verdict.own)
    return {name: estimate(np.array(wins), seed) for name, wins in sorted(groups.items())}


def estimate(wins: NDArray[np.float64], seed: int) -> dict[str, Any]:
    """The mean over cases with the 95 % interval of its bootstrap."""
    rng = np.random.default_rng(seed)
    means = wins[rng.integers(0, len(wins), (RESAMPLES, len(wins)))].mean(axis=1)
    low, high = interval(means).tolist()
    return {"share": float(wins.mean()), "low": low, "high": high, "cases": len(wins)}
