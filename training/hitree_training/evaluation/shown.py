"""Figures as markdown tables, one function a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any  # JSON

Figures = Mapping[str, Any]

SIDES = {"seen": "", "unseen": "not trained on: "}


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """A figure; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share."""
    return "-" if value is None else f"{100 * value:.1f} %"


def share(found: Figures | None) -> str:
    """A share with its interval."""
    if not found:
        return "-"
    return f"{percent(found['share'])} ({100 * found['low']:.0f} to {100 * found['high']:.0f})"


def mean(found: Figures | None) -> str:
    """A mean with its interval, signed."""
    if not found:
        return "-"
    return f"{found['mean']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"


def annotated(figures: Figures) -> str:
    """The decoder's NLL as drawings are annotated."""
    return rows(
        ("drawings", "NLL per point", "placement, per drawing", "segment end, per stroke"),
        [
            (
                f"{kind}, {one['drawings']:,}",
                *(number(one[n]) for n in ("nll", "placement", "segment")),
            )
            for kind, one in figures.items()
        ],
    )


def told(figures: Figures) -> str:
    """The decoder's NLL by what it is told."""
    kinds = list(next(iter(figures.values())))
    return rows(
        ("told", *kinds),
        [
            (condition, *(number(one[kind]["nll"]) for kind in kinds))
            for condition, one in figures.items()
        ],
    )


def conditions(figures: Figures) -> str:
    """Decoders at one budget: mean NLL over seeds, with the spread."""
    columns = [
        (side, kind)
        for side in SIDES
        for kind in ("real", "drawn", "sampled")
        if any(kind in one[side] for one in figures["summary"])
    ]
    return rows(
        ("condition", "seeds", *(f"{SIDES[side]}{kind}" for side, kind in columns)),
        [
            (
                one["condition"]
                + (" + matching" if one["matching"] else "")
                + (", subjects left out" if one["unseen"] else ""),
                str(len(one["seeds"])),
                *(_spread(one[side].get(kind)) for side, kind in columns),
            )
            for one in figures["summary"]
        ],
    )


def _spread(found: Figures | None) -> str:
    if not found:
        return "-"
    if found["low"] == found["high"]:  # one run has no spread
        return number(found["nll"])
    return f"{found['nll']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def google(figures: Figures) -> str:
    """Ours minus Google's, per point and in units."""
    return rows(
        ("told", "mean of subjects", "mean of drawings", "subjects ahead"),
        [
            (condition, mean(one["macro"]), mean(one["micro"]), f"{one['ahead']} of {one['of']}")
            for condition, one in figures.items()
        ],
    )


def google_subjects(figures: Figures) -> str:
    """Both decoders, subject by subject, told the root."""
    return rows(
        ("subject", "drawings", "ours", "Google's", "difference"),
        [
            (
                subject if one["sound"] else f"({subject})",
                str(one["drawings"]),
                number(one["ours"]),
                number(one["google"]),
                f"{one['ours'] - one['google']:+.3f}",
            )
            for subject, one in figures["root"]["subjects"].items()
        ],
    )


METRICS = {"bleu_1": "BLEU-1", "bleu_2": "BLEU-2", "rouge_l": "ROUGE-L"}


def texts(figures: Figures) -> str:
    """How well instructions are written, floors and oracle beside, and the talk's figures."""
    kinds = figures["kinds"]
    head = [f"{kind} {label}" for kind in kinds for label in (*METRICS.values(), "words")]
    body = [
        (name, *(cell for one in kinds.values() for cell in _text_cells(one[name])))
        for name in next(iter(kinds.values()))
    ]
    talk = [
        (f"the talk's {name}", *_text_cells(one), *["-"] * (len(head) - 4))
        for name, one in figures["talk"].items()
    ]
    return rows(("", *head), body + talk)


def _text_cells(found: Figures) -> list[str]:
    values = [found[name] for name in METRICS]
    plain = [value["mean"] if isinstance(value, dict) else value for value in values]
    return [*map(number, plain), str(found["unique_words"])]


def plans(figures: Figures) -> str:
    """What plans are like: as they are sampled, and as a user gets them."""
    shares = {
        "three_or_more_steps": "three or more steps",
        "says_a_step_twice": "say a step twice",
        "repeats_but_for_the_verb": "say it twice but for the first word",
        "different": "different",
        "whole": "have all that is usual",
    }
    body = [
        (
            name,
            f"{figures[name]['plans']:,}",
            number(figures[name]["steps"], 2),
            *(percent(figures[name][share]) for share in shares),
        )
        for name in ("sampled", "chosen")
    ]
    last = ("annotated drawings", *["-"] * (1 + len(shares)), percent(figures["annotated_whole"]))
    return rows(("plans", "number", "steps", *shares.values()), [*body, last])


def trees(figures: Figures) -> str:
    """Bracketing F1 (recall) by scorer and parser, beside trees that look at nothing."""
    body: list[tuple[str, ...]] = []
    first = next(iter(figures.values()))
    for scorer, parsers in first["bracketing"].items():
        body += [
            (
                f"{scorer}, {parser}",
                *(_agreed(one["bracketing"][scorer][parser]) for one in figures.values()),
            )
            for parser in parsers
        ]
    body += [
        (name, *(_agreed(one["trivial"][name]) for one in figures.values()))
        for name in first["trivial"]
    ]
    body.append(("oracle", *(_agreed(one["oracle"]) for one in figures.values())))
    return rows(("tree", *(f"{k}, {one['drawings']}" for k, one in figures.items())), body)


def _agreed(found: Figures) -> str:
    return f"{found['f1']:.3f} ({found['recall']:.3f})"


def trees_sharing(figures: Figures) -> str:
    """How much of a parent's text its children's texts say."""
    return rows(
        ("trees", *(f"{kind} {label}" for kind in figures for label in ("BLEU-1", "ROUGE-L"))),
        [
            (
                name,
                *(
                    number(one["sharing"][name][metric])
                    for one in figures.values()
                    for metric in ("bleu_1", "rouge_l")
                ),
            )
            for name in next(iter(figures.values()))["sharing"]
        ],
    )


def trees_served(figures: Figures) -> str:
    """Trees as they are served, of whatever size."""
    names = ("f1", "recall", "precision", "nodes", "annotated_nodes")
    return rows(
        ("drawings", "F1", "recall", "precision", "nodes", "annotated nodes"),
        [
            (
                kind,
                *(number(one["served"][name], 3 if i < 3 else 1) for i, name in enumerate(names)),
            )
            for kind, one in figures.items()
        ],
    )


def _recognised(figures: Figures) -> str:
    return rows(
        ("drawings", "number", "recognised, mean of subjects"),
        [
            (
                name,
                f"{one['drawings']:,}",
                f"{percent(one['mean'])} ({100 * one['low']:.0f} to {100 * one['high']:.0f})",
            )
            for name, one in figures.items()
        ],
    )


def recognition(figures: Figures) -> str:
    """How often drawings are recognised."""
    return _recognised(figures["recognised"])


def recognition_subjects(figures: Figures) -> str:
    """How often they are recognised, subject by subject."""
    found = figures["recognised"]
    subjects = list(next(iter(found.values()))["subjects"])
    return rows(
        ("subject", *found),
        [
            (s, *(percent(one["subjects"].get(s, {}).get("right")) for one in found.values()))
            for s in subjects
        ],
    )


def likeness(figures: Figures) -> str:
    """How much drawings differ from one another and from training drawings."""
    found = figures["likeness"]
    return rows(
        ("drawings", "apart", "from the nearest training drawing", "copies"),
        [
            (name, number(one["spread"]), number(one["nearest"]), percent(one["copies"]))
            for name, one in found.items()
        ],
    )


STEERED = {
    "drawn": "drawn under the instruction",
    "turned": "drawn under the opposite trait, which is to be preferred",
    "untold": "drawn without any text",
    "human": "the annotator's own",
}


def steering(figures: Figures) -> str:
    """How often drawn segments fit their own instruction better than a wrong one."""
    found = figures["preferred"]
    columns = ("all", "trait", "part", "real", "drawn")
    return rows(
        ("segment", *columns),
        [
            (label, *(share(found[row].get(column)) for column in columns))
            for row, label in STEERED.items()
        ],
    )


def steering_traits(figures: Figures) -> str:
    """The same, trait by trait."""
    found = figures["preferred"]
    traits = sorted(name for name in found["human"] if name.startswith("trait "))
    return rows(
        ("trait", "cases", *STEERED),
        [
            (
                trait.removeprefix("trait "),
                str(found["human"][trait]["cases"]),
                *(share(found[row].get(trait)) for row in STEERED),
            )
            for trait in traits
        ],
    )


SHOWN: dict[str, Callable[[Figures], str]] = {
    "annotated": annotated,
    "told": told,
    "conditions": conditions,
    "google": google,
    "google subjects": google_subjects,
    "texts": texts,
    "plans": plans,
    "trees": trees,
    "trees served": trees_served,
    "trees sharing": trees_sharing,
    "classifier": _recognised,
    "recognition": recognition,
    "recognition subjects": recognition_subjects,
    "recognition likeness": likeness,
    "steering": steering,
    "steering traits": steering_traits,
}
