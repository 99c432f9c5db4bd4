"""Drawings as pixels; the only use of pillow."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from hitree.drawing import FRAME
from hitree.errors import MissingPackage
from hitree.svg import WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hitree.drawing import Drawing

SIZE = 512  # pixels, both ways
_FINE = 4  # drawn that much larger first: pillow's lines have hard edges


def render(drawing: Drawing, colours: Sequence[str]) -> bytes:
    """Draw strokes on white as the bytes of a PNG, one CSS colour a stroke.

    Raises:
        MissingPackage: pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as exc:
        raise MissingPackage("a PNG needs pillow: pip install 'hitree[png]'") from exc
    image = Image.new("RGB", (SIZE * _FINE, SIZE * _FINE), "white")
    pen = ImageDraw.Draw(image)
    scale = SIZE * _FINE / FRAME
    radius = WIDTH * scale / 2
    for stroke, colour in zip(drawing.strokes, colours, strict=True):
        points = [(x * scale, y * scale) for x, y in stroke.tolist()]
        pen.line(points, fill=colour, width=round(2 * radius))
        for point in points:  # round caps and joins
            pen.circle(point, radius, fill=colour)
    data = BytesIO()
    image.resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(data, format="PNG")
    return data.getvalue()
