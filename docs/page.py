"""Takes ``docs/images/app.png``: the drawing page with a flamingo on it.

Run ``python docs/page.py [URL] [OUT.png] [SEED]`` beside a running ``hitree serve``, with
playwright and the system's Chromium installed.
"""

import sys

from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"


def main(
    url: str = "http://127.0.0.1:3000/", out: str = "docs/images/app.png", seed: str = "7"
) -> None:
    """Draw the flamingo that the page suggests and save the picture."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page(viewport={"width": 1280, "height": 860}, device_scale_factor=1)
        page.goto(url)
        page.fill("#seed", seed)
        page.select_option("#speed", "Infinity")
        page.click("#draw")
        page.locator("#status", has_text="made in").wait_for()
        page.mouse.move(1, 1)
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
