"""Draws ``docs/images/gallery.png``: twelve subjects, each drawing coloured by the plan's leaves.

Run ``python docs/gallery.py [OUT.png] [SEED]`` with ``hitree[server,training]`` installed; it draws
with the installed bundle (or with the service at HITREE_URL).
"""

import sys

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hitree.events import StrokeFinished
from hitree.tree import Plan
from hitree_sdk import Client, Sketch

SUBJECTS = (
    "flamingo", "cat", "elephant", "snail", "owl", "sea turtle",
    "rabbit", "butterfly", "penguin", "spider", "lion", "whale",
)  # fmt: skip
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#333333")


def main(out: str = "docs/images/gallery.png", seed: str = "7") -> None:
    """Draw all subjects and save the picture."""
    figure = Figure(figsize=(16, 14.5))
    figure.subplots_adjust(0.02, 0.07, 0.98, 0.97, wspace=0.08, hspace=0.34)
    with Client() as client:
        for index, subject in enumerate(SUBJECTS):
            article = "an" if subject[0] in "aeiou" else "a"
            axes = figure.add_subplot(3, 4, index + 1)
            panel(axes, *draw(client, f"draw {article} {subject}", int(seed)))
    figure.savefig(out, dpi=80)


def draw(client: Client, prompt: str, seed: int) -> tuple[Sketch, Plan, list[int]]:
    """The drawing of a prompt, its plan and the leaf of every stroke."""
    plan = client.plan(prompt, seed=seed)
    with client.draw(plan, seed=seed) as stream:
        nodes = [event.node for event in stream if isinstance(event, StrokeFinished)]
    return stream.result(), plan, nodes


def panel(axes: Axes, sketch: Sketch, plan: Plan, nodes: list[int]) -> None:
    """One drawing with the texts of its leaves in the colours of their strokes."""
    leaves = [leaf.id for leaf in plan.leaves]
    for stroke, node in zip(sketch.strokes, nodes, strict=True):
        colour = COLOURS[leaves.index(node) % len(COLOURS)]
        axes.plot(stroke[:, 0], stroke[:, 1], color=colour, lw=2, solid_capstyle="round")
        if len(stroke) == 1:
            axes.plot(stroke[:, 0], stroke[:, 1], ".", color=colour)
    axes.set(xlim=(-12, 268), ylim=(268, -12), aspect="equal", xticks=[], yticks=[])
    axes.set_title(plan.root.text, fontsize=11, loc="left")
    for line, leaf in enumerate(plan.leaves):
        colour = COLOURS[line % len(COLOURS)]
        axes.text(
            0, -0.02 - 0.05 * line, leaf.text, color=colour, fontsize=9,
            transform=axes.transAxes, va="top",
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
