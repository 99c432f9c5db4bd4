"""The drawing page in a real browser, against a scripted door and against the service."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from end_to_end.fake_door import LEAVES, FakeDoor, fake_door

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from end_to_end.processes import Served

pytestmark = pytest.mark.full

PHONE = {"width": 360, "height": 740}
STROKES = sum(len(strokes) for _, strokes in LEAVES)
SVG = "{http://www.w3.org/2000/svg}"
# The picture on the canvas: how many pixels are not empty.
INKED = """() => {
  const { width, height } = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  return data.filter((value, i) => i % 4 === 3 && value > 0).length;
}"""


@pytest.fixture
def door() -> Iterator[tuple[str, type[FakeDoor]]]:
    with fake_door() as running:
        yield running


@contextmanager
def visit(browser: Browser, url: str, **options: object) -> Iterator[Page]:
    """The page, opened; it may make no request elsewhere and break no policy of its own."""
    context = browser.new_context(**options)  # type: ignore[arg-type]  # options by name
    page = context.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.goto(url)
    yield page
    context.close()
    assert [at for at in asked if not at.startswith((url, "data:", "blob:"))] == []
    # A refused request is an error in the console too; that is the browser's own line.
    assert [line for line in wrong if "Failed to load resource" not in line] == []


def at_once(page: Page) -> None:
    page.select_option("#speed", "Infinity")


def wait(page: Page, selector: str, count: int = 1) -> None:
    page.locator(selector).nth(count - 1).wait_for(timeout=20_000)


def test_draws_and_shows_the_plan(browser: Browser, door: tuple[str, type[FakeDoor]]) -> None:
    url, fake = door
    with visit(browser, url) as page:
        assert page.input_value("#prompt") == "draw a flamingo"
        at_once(page)
        page.fill("#seed", "7")
        page.fill("#temperature", "0.4")
        page.press("#prompt", "Enter")
        wait(page, ".node.leaf.done", len(LEAVES))
        assert fake.requests == [{"prompt": "draw a flamingo", "seed": 7, "temperature": 0.4}]
        assert page.locator(".node.inner").count() == 3
        assert page.locator(".node.leaf span").all_inner_texts() == [text for text, _ in LEAVES]
        assert page.inner_text("#status").startswith(f"{STROKES} strokes, ")
        assert page.evaluate(INKED) > 1000


def test_plays_at_a_persons_pace(browser: Browser, door: tuple[str, type[FakeDoor]]) -> None:
    with visit(browser, door[0]) as page:
        page.click("#draw")
        wait(page, ".node.drawing[aria-current=step]")
        assert page.locator(".node.leaf.done").count() < len(LEAVES)
        first = page.evaluate(INKED)
        wait(page, ".node.leaf.done", 2)
        assert page.evaluate(INKED) > first


def test_stop_cancels_the_request(browser: Browser, door: tuple[str, type[FakeDoor]]) -> None:
    url, fake = door
    with visit(browser, url) as page:
        at_once(page)
        page.fill("#prompt", "draw a slow flamingo")
        page.click("#draw")
        wait(page, ".node.drawing")
        page.click("#stop")
        assert fake.gone.wait(10)
        assert page.inner_text("#status") == "Stopped"
        assert page.is_disabled("#stop")
        assert page.is_enabled("#save")


def test_unknown_subject_offers_the_nearest(
    browser: Browser, door: tuple[str, type[FakeDoor]]
) -> None:
    url, fake = door
    with visit(browser, url) as page:
        at_once(page)
        page.fill("#prompt", "draw a unicorn")
        page.click("#draw")
        wait(page, "#nearest button", 3)
        assert "no subject" in page.inner_text("#error[role=alert]")
        page.click("#nearest button >> text=sea turtle")
        wait(page, ".node.leaf.done", len(LEAVES))
        assert fake.requests[-1]["prompt"] == "draw a sea turtle"
        assert page.is_hidden("#error")


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("draw a busy street", "the queue is full"),
        ("fail to draw a cat", "the step failed"),
        ("break a cup", "The stream broke off"),
    ],
)
def test_errors_are_told(
    browser: Browser, door: tuple[str, type[FakeDoor]], prompt: str, told: str
) -> None:
    with visit(browser, door[0]) as page:
        page.fill("#prompt", prompt)
        page.click("#draw")
        wait(page, "#error")
        assert told in page.inner_text("#error-message")
        assert page.is_enabled("#draw")
        assert page.is_disabled("#stop")


def test_saves_an_svg_with_the_leaves(browser: Browser, door: tuple[str, type[FakeDoor]]) -> None:
    with visit(browser, door[0]) as page:
        at_once(page)
        page.click("#draw")
        wait(page, ".node.leaf.done", len(LEAVES))
        with page.expect_download() as download:
            page.click("#save")
        assert download.value.suggested_filename == "flamingo.svg"
        paths = ElementTree.parse(download.value.path()).findall(f"{SVG}path")
    assert len(paths) == STROKES
    assert len({path.get("stroke") for path in paths}) == len(LEAVES)
    assert paths[0].findtext(f"{SVG}title") == LEAVES[0][0]


def test_shows_what_lies_outside_the_frame(
    browser: Browser, door: tuple[str, type[FakeDoor]]
) -> None:
    with visit(browser, door[0]) as page:
        at_once(page)
        page.fill("#prompt", "draw a tall flamingo")
        page.click("#draw")
        wait(page, ".node.leaf.done", len(LEAVES))
        with page.expect_download() as download:
            page.click("#save")
        root = ElementTree.parse(download.value.path()).getroot()
    _, top, _, height = map(float, root.attrib["viewBox"].split())
    assert (top, top + height) == pytest.approx((-90, 266), abs=1)


def test_same_seed_again_and_replay(browser: Browser, door: tuple[str, type[FakeDoor]]) -> None:
    url, fake = door
    with visit(browser, url) as page:
        at_once(page)
        page.click("#draw")
        wait(page, "#keep")
        page.click("#keep")
        page.click("#replay")
        wait(page, ".node.leaf.done", len(LEAVES))
        assert len(fake.requests) == 1
        page.click("#draw")
        wait(page, ".node.leaf.done", len(LEAVES))
        assert fake.requests[0] == fake.requests[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone(browser: Browser, door: tuple[str, type[FakeDoor]], scheme: str) -> None:
    with visit(
        browser, door[0], viewport=PHONE, color_scheme=scheme, device_scale_factor=3
    ) as page:
        at_once(page)
        page.click("#draw")
        wait(page, ".node.leaf.done", len(LEAVES))
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width == PHONE["width"]
        drawn = page.locator("#canvas").bounding_box()
        assert drawn is not None
        assert page.evaluate("canvas.width") == round(3 * drawn["width"])


def test_draws_with_the_service(browser: Browser, served: Served) -> None:
    with visit(browser, f"{served.http}/") as page:
        at_once(page)
        page.fill("#seed", "7")
        page.click("#draw")
        page.locator("#status", has_text="made in").wait_for(timeout=60_000)
        assert page.locator(".node.leaf.done").count() >= 3
        assert page.evaluate(INKED) > 1000
