"""From a prompt to a plan: expand, rank, go down a level.

Every node is expanded several times by the generator; the expansion is taken that is probable, and
whose steps together mean what their parent says and each something else. A node's noise is a
function of the seed and of where the node stands, so that the same seed gives the same plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hitree.errors import InvalidInput
from hitree.expansion import choose, other_subjects
from hitree.limits import LIMITS
from hitree.text import check_text
from hitree.tree import Node, Plan, build
from hitree_server.instruction import as_instruction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hitree_server.decoding import Floats
    from hitree_server.models import Expansion
    from hitree_server.subjects import Recognition

EXPANSIONS = 24  # sampled for each node
MAX_DEPTH = 2  # levels below the root
MAX_NODES = 24  # still readable, and drawn within the points of one request
TEMPERATURE = 0.7
MAX_TEMPERATURE = 2.0


class PlanModels(Protocol):
    """What a planner needs of `hitree_server.models.Models`."""

    subjects: tuple[str, ...]
    settings: Mapping[str, float]

    def recognise(self, prompt: str, nearest: bool = False) -> Recognition: ...

    def embed_texts(self, texts: Sequence[str]) -> Floats: ...

    def expand(
        self,
        stacks: Sequence[tuple[str, ...]],
        subject: str,
        *,
        samples: int,
        temperature: float,
        rngs: Sequence[np.random.Generator],
    ) -> list[list[Expansion]]: ...


@dataclass(frozen=True)
class PlanSettings:
    """How one plan is made; 0 stands for the default."""

    seed: int = 0
    expansions: int = EXPANSIONS
    max_depth: int = MAX_DEPTH
    max_nodes: int = MAX_NODES
    temperature: float = TEMPERATURE

    def check(self) -> PlanSettings:
        """Refuse what cannot be done.

        Raises:
            InvalidInput: an option is out of its range.
        """
        _within("expansions", self.expansions, 1, LIMITS.expansions)
        _within("max_depth", self.max_depth, 1, LIMITS.max_depth)
        _within("max_nodes", self.max_nodes, 1, LIMITS.plan_nodes)
        if not 0 < self.temperature <= MAX_TEMPERATURE:  # NaN fails too
            raise InvalidInput(
                f"temperature is {self.temperature}; send a number above 0, up to "
                f"{MAX_TEMPERATURE:g}"
            )
        return self


@dataclass
class _Draft:
    """A node that is being expanded."""

    text: str
    path: tuple[int, ...]  # the child indices that lead to it from the root
    stack: tuple[str, ...]  # texts from the root to this node
    score: float | None
    children: list[_Draft] = field(default_factory=list)


class Planner:
    """Writes plans with a bundle's models."""

    def __init__(self, models: PlanModels) -> None:
        self._models = models

    def plan(
        self,
        prompt: str,
        *,
        seed: int,
        expansions: int = 0,
        max_depth: int = 0,
        max_nodes: int = 0,
        nearest: bool = False,
        temperature: float = 0.0,
    ) -> Plan:
        """Write the plan for a prompt; an option of 0 means its default.

        Raises:
            NotText, EmptyPrompt, PromptTooLong: see `hitree.text.check_text`.
            UnknownSubject: none is recognised, and ``nearest`` is not set.
            InvalidInput: an option is out of its range.
        """
        default = self._models.settings.get("plan_temperature", TEMPERATURE)
        settings = PlanSettings(
            seed=seed,
            expansions=expansions or EXPANSIONS,
            max_depth=max_depth or MAX_DEPTH,
            max_nodes=max_nodes or MAX_NODES,
            temperature=temperature or default,
        ).check()
        prompt = check_text(prompt)
        found = self._models.recognise(prompt, nearest)
        text = as_instruction(prompt, found.subject)
        root = _Draft(text, (), (text,), None)
        self._grow(root, found.subject, settings)
        return Plan(build(_preorder(root)), found.subject, found.confidence, prompt)

    def _grow(self, root: _Draft, subject: str, settings: PlanSettings) -> None:
        """Expand level by level, so that the limit on nodes cuts the lowest level first."""
        others = other_subjects(root.text, subject, self._models.subjects)
        level, count = [root], 1
        for _ in range(settings.max_depth):
            below: list[_Draft] = []
            for draft, sampled in zip(level, self._expand(level, subject, settings), strict=True):
                best = choose(sampled, draft.stack, others, self._models.embed_texts)
                if best is None or count + len(best.texts) > settings.max_nodes:
                    continue
                draft.children = _children(draft, best)
                below += draft.children
                count += len(best.texts)
            level = below

    def _expand(
        self, level: list[_Draft], subject: str, settings: PlanSettings
    ) -> list[list[Expansion]]:
        """What the generator makes of every node of a level, all nodes in one batch."""
        if not level:
            return []
        return self._models.expand(
            [draft.stack for draft in level],
            subject,
            samples=settings.expansions,
            temperature=settings.temperature,
            rngs=[
                np.random.default_rng([settings.seed, len(draft.path), *draft.path])
                for draft in level
            ],
        )


def _children(draft: _Draft, best: Expansion) -> list[_Draft]:
    scores = best.text_log_probs or (best.log_prob,) * len(best.texts)
    return [
        _Draft(text, (*draft.path, index), (*draft.stack, text), score)
        for index, (text, score) in enumerate(zip(best.texts, scores, strict=True))
    ]


def _preorder(root: _Draft) -> list[Node]:
    nodes: list[Node] = []
    waiting: list[tuple[_Draft, int | None]] = [(root, None)]
    while waiting:
        draft, parent = waiting.pop()
        nodes.append(Node(len(nodes), parent, draft.text, score=draft.score))
        waiting += [(child, nodes[-1].id) for child in reversed(draft.children)]
    return nodes


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidInput(f"{name} is {value}; send {low} to {high}, or 0 for the default")
