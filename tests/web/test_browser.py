"""The pages in Chromium: axe finds nothing wrong, nothing is blocked, nothing is too wide."""

from collections.abc import AsyncIterator

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright

from tests.web.conftest import Mirror, program
from tests.web.test_pageshell import DARK, LIGHT

# As root, and without a network: no sandbox, and no look-up of the browser's own.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = [(path, scheme) for path in ("/", "/dl/") for scheme in ("light", "dark")]
WIDTHS = (1280, 768, 360)
THEMES = {"light": LIGHT, "dark": DARK}
_OPEN_ALL = "document.querySelectorAll('details').forEach(one => { one.open = true })"
_WIDTH = "document.documentElement.scrollWidth"
_COLOURS = """() => {
    const style = getComputedStyle(document.body);
    return [style.backgroundColor, style.color];
}"""


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    path = program("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


def rgb(colour: str) -> str:
    """Return a colour as browsers print it: "#ffffff" is "rgb(255, 255, 255)"."""
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


async def violations(page: Page) -> list[str]:
    """Return what axe objects to, each rule with the first elements that it is about."""
    results = await Axe().run(page)
    return [
        f"{one['id']}: {[node['target'] for node in one['nodes'][:3]]}"
        for one in results.response["violations"]
    ]


@pytest.mark.parametrize(("path", "scheme"), PAGES)
async def test_a_page_is_as_it_should_be_in_a_browser(
    chromium: Browser, mirror: Mirror, path: str, scheme: str
) -> None:
    page = await chromium.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    url = f"{mirror.site.base}{path}"
    await page.goto(url)
    # The policy lets the stylesheet through, and the theme is the one that people asked for.
    colours = [rgb(THEMES[scheme][name]) for name in ("page", "text")]
    assert await page.evaluate(_COLOURS) == colours
    await page.evaluate(_OPEN_ALL)
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate(_WIDTH) <= width
    assert await violations(page) == []
    assert complaints == []
    assert requests == [url]
    await page.close()


async def test_the_reference_of_the_api_is_not_too_wide(chromium: Browser, mirror: Mirror) -> None:
    page = await chromium.new_page(viewport={"width": 360, "height": 800})
    await page.goto(f"{mirror.site.base}/docs")
    assert await page.evaluate(_WIDTH) <= 360
    await page.close()
