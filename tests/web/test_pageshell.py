"""The frame of the pages: contrast of every colour in both themes, and the headers.

Contrast as WCAG 2.2 defines it (1.4.3 and the definitions of contrast ratio and of relative
luminance): at least 4.5 for text.
"""

import base64
import hashlib
import re
from itertools import product

import pytest

from app.web.pageshell import POLICY, STYLE, code_block, page, page_answer

LIGHT, DARK = (
    dict(re.findall(r"--([a-z]+):(#[0-9a-f]{6})", block))
    for block in re.findall(r":root\{([^}]*)\}", STYLE)
)
BACKGROUNDS = ("page", "soft")
TEXTS = ("text", "dim", "link", "ok", "warn", "bad")
NOT_TEXT = ("line",)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_specification() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#1a7f4b", "#121212") < 4.5  # green of a light theme on a dark page


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "background"), list(product(TEXTS, BACKGROUNDS)))
def test_text_has_the_contrast_of_level_aa(
    theme: dict[str, str], text: str, background: str
) -> None:
    assert contrast(theme[text], theme[background]) >= 4.5


def test_both_themes_name_every_colour_that_is_used() -> None:
    used = set(re.findall(r"var\(--([a-z]+)\)", STYLE))
    assert used == set(LIGHT) == set(DARK) == {*BACKGROUNDS, *TEXTS, *NOT_TEXT}


def test_no_colour_is_computed_otherwise() -> None:
    rules = re.sub(r":root\{[^}]*\}", "", STYLE)
    assert "opacity" not in rules
    assert "#" not in rules
    for name, value in re.findall(r"[{;\s](color|background):([^;}]+)", rules):
        names = TEXTS if name == "color" else BACKGROUNDS
        assert value in {f"var(--{one})" for one in names}


def test_the_policy_allows_the_stylesheet_alone() -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page("x", "/", ()), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none';")
    headers = dict(page_answer("", b"").headers)
    assert headers[b"content-security-policy"] == POLICY.encode()


def test_title_and_code_are_escaped() -> None:
    html = page("<b>&", "/", [code_block("</code><script>&")])
    assert "<h1>&lt;b&gt;&amp;</h1>" in html
    assert "&lt;/code&gt;&lt;script&gt;&amp;" in html
    assert "<script" not in html
