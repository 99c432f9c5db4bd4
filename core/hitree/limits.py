"""The one table of limits: both doors, the embedded engine and the SDK check against it."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may hold; a request beyond a limit is refused at the door."""

    drawing_strokes: int = 512  # strokes of a drawing to annotate, describe or score
    drawing_points: int = 20_000  # points of such a drawing
    canvas_strokes: int = 128  # strokes of a canvas to continue
    canvas_points: int = 2_000  # points of such a canvas
    text_characters: int = 500  # characters of a prompt, an instruction, an id that comes back
    plan_nodes: int = 64  # nodes of a plan
    max_depth: int = 64  # levels of a plan below its root
    expansions: int = 64  # sampled and ranked for each node of a plan
    n_best: int = 16  # descriptions of one segment
    score_items: int = 64  # instructions to score in one request
    message_bytes: int = 4 * 1024 * 1024  # bytes of one message
    candidates: int = 16  # drawings made and ranked for one request
    sessions_per_key: int = 8  # live sessions of one API key
    max_points: int = 2_000  # points that one request may draw
    frame_margin: int = 1_024  # units that a coordinate may lie outside the frame

    def as_dict(self) -> dict[str, int]:
        """The table as plain numbers, for ``ModelInfo``."""
        return asdict(self)


LIMITS = Limits()
