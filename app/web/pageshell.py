"""The frame of every page for people: one layout, one stylesheet, one set of headers.

A page loads nothing and runs no script; the policy lets a browser apply this stylesheet alone.
Colours are opaque and named once for each theme: `tests/web/test_pageshell.py` computes their
contrasts. Not here: the pages (`homepage`, `pages`, `admin/reference`).
"""

import base64
import hashlib
from collections.abc import Iterable
from html import escape

from app import __version__
from app.web.responses import Answer, text_answer

STYLE = """
:root{color-scheme:light dark;--page:#ffffff;--soft:#f2f4f7;--line:#c9d1da;--text:#1c2128;
--dim:#57606a;--link:#0b57b5;--ok:#17703a;--warn:#805300;--bad:#b42318}
@media (prefers-color-scheme:dark){:root{--page:#12161b;--soft:#1d242c;--line:#3d4854;
--text:#e4e9ee;--dim:#a3afba;--link:#84bcff;--ok:#63d391;--warn:#e6b84a;--bad:#ff9a90}}
*{box-sizing:border-box}
body{font:16px/1.6 system-ui,sans-serif;margin:0;background:var(--page);color:var(--text)}
header,main,footer{max-width:66rem;margin:0 auto;padding:0 1.25rem}
header{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;align-items:baseline;padding-top:1rem;
padding-bottom:1rem;border-bottom:1px solid var(--line)}
header strong{font-size:1.1rem}nav{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem}
main{padding-bottom:3rem}
footer{border-top:1px solid var(--line);padding-top:1rem;padding-bottom:2rem}
h1{font-size:1.8rem;line-height:1.25;margin:1.75rem 0 .5rem}
h2{font-size:1.3rem;line-height:1.3;margin:2.25rem 0 .5rem}
h3{font-size:1rem;margin:1.5rem 0 .25rem}
p{margin:.5rem 0;max-width:46rem}
a{color:var(--link)}.ok{color:var(--ok)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.dim,footer{color:var(--dim)}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.875em}
code{overflow-wrap:anywhere}pre code{font-size:1em}
pre{background:var(--soft);border:1px solid var(--line);border-radius:.4rem;padding:.75rem 1rem;
margin:.5rem 0;overflow-x:auto;line-height:1.5}
details{border-bottom:1px solid var(--line)}
summary{cursor:pointer;padding:.5rem 0}
details>:last-child{margin-bottom:1rem}
.badge{border:1px solid;border-radius:1em;padding:0 .6em;font-size:.8rem;white-space:nowrap}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.5rem;margin:.5rem 0}
.facts dt{color:var(--dim)}.facts dd{margin:0;overflow-wrap:anywhere}
.files{list-style:none;margin:.5rem 0;padding:0}
.files li{display:flex;flex-wrap:wrap;gap:.1rem .75rem;align-items:baseline;padding:.5rem 0;
border-top:1px solid var(--line)}
.files li>*{overflow-wrap:anywhere;min-width:0}
.files li>a:first-child,.files li>b:first-child{font-weight:600}
.usual li>b:first-child{flex:0 0 12rem}.sums{white-space:nowrap}.sums a{margin-right:.75rem}
.hash{flex-basis:100%;color:var(--dim);font-size:.8rem;overflow-wrap:anywhere}
table{border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:.3rem 1.25rem .3rem 0;
border-bottom:1px solid var(--line)}
td:last-child{overflow-wrap:anywhere}td pre{white-space:pre-wrap;overflow-wrap:anywhere}
.scroll{overflow-x:auto}.scroll th,.scroll td{white-space:nowrap}
@media (max-width:60rem){.usual li>b:first-child{flex-basis:100%}}
@media (max-width:36rem){.scroll{font-size:.875rem}
.facts{grid-template-columns:1fr;gap:0}.facts dd{margin-bottom:.5rem}
header,main,footer{padding-left:1rem;padding-right:1rem}th,td{padding-right:.75rem}}
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page."""

_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
)
_NAVIGATION = (("/", "Start"), ("/dl/", "Go downloads"), ("/docs", "Admin API"))


def page(title: str, here: str, body: Iterable[str]) -> str:
    """Return a whole page as HTML.

    Args:
        title: plain text, also the heading.
        here: path of the page: "/dl/".
        body: HTML that follows the heading.
    """
    heading = escape(title)
    links = "".join(
        f'<a href="{path}"{" aria-current=page" if path == here else ""}>{name}</a>'
        for path, name in _NAVIGATION
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{heading}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{STYLE}</style></head><body>"
        f"<header><strong>Moorage</strong><nav>{links}</nav></header>"
        f"<main><h1>{heading}</h1>{''.join(body)}</main>"
        f"<footer>Moorage {escape(__version__)}</footer></body></html>\n"
    )


def code_block(text: str) -> str:
    """Return text as a block to copy from; the keyboard scrolls a block that is too wide."""
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def page_answer(html: str, caching: bytes) -> Answer:
    """Return the answer that sends a page. Call this in a thread, as `text_answer`."""
    return text_answer(html.encode(), b"text/html; charset=utf-8", caching, *_HEADERS)
