"""The page at `/`: what this is, how to use it, and the state of the mirror.

Everything from outside is escaped. Not here: the request (`home`), the list of files (`pages`).
"""

from collections.abc import Callable, Iterator
from html import escape

from app.core.clientconfig import Target, render
from app.core.gorelease import Release, newest_supported
from app.core.installsteps import TARGETS, install_steps
from app.services.releases.catalog import Catalog
from app.services.tenants.clients import EXAMPLE_TENANT, PublicConfig
from app.web.pages import index_state
from app.web.pageshell import code_block, page

_NAMES = {
    Target.SH: "Linux and macOS: sh",
    Target.POWERSHELL: "Windows: PowerShell",
    Target.DOCKERFILE: "Docker",
    Target.GITHUB_ACTIONS: "GitHub Actions",
    Target.ANSIBLE: "Ansible",
}
_STEP_NAMES = {Target.SH: "Linux: sh", Target.GITHUB_ACTIONS: "GitHub Actions: setup-go"}
_LINKS = (
    ("/dl/", "Go downloads, for people"),
    ("/dl/?mode=json&include=all", "The releases as JSON, in go.dev's form"),
    ("/dl/SHA256SUMS", "SHA256SUMS of all files"),
    ("/docs", "The admin API"),
    ("/readyz", "Whether requests can be served, and what an operator has to look at"),
    ("/metrics", "Metrics for Prometheus"),
    ("/version", "The version of Moorage"),
)


def home_page(catalog: Catalog, public: PublicConfig) -> str:
    """Return the page as HTML.

    Args:
        catalog: whose newest stable release the steps name.
        public: the address and the tenant that the settings name.
    """
    return page("Go, from your own harbour", "/", _body(catalog, public))


def _body(catalog: Catalog, public: PublicConfig) -> Iterator[str]:
    yield (
        "<p>This is Moorage: a mirror of Go's toolchains and a module proxy for the <code>go"
        "</code> command. Everything is checked once, when it comes in, and served from here; also "
        "while the places where it comes from can't be reached.</p>"
    )
    newest = next(iter(newest_supported(catalog.releases)), None)
    yield from _state(catalog, newest)
    yield from _modules(public)
    yield from _toolchains(catalog, newest, public.config.base_url)
    yield "<h2>Links</h2><ul>"
    for path, name in _LINKS:
        yield f'<li><a href="{escape(path)}">{escape(name)}</a></li>'
    yield "</ul>"


def _state(catalog: Catalog, newest: Release | None) -> Iterator[str]:
    offered = catalog.offered
    stored = sum(1 for record in offered if record.has_bytes)
    name = escape(newest.version) if newest else "none is offered"
    yield '<h2 id="state">State of the mirror</h2><dl class="facts">'
    yield f"<dt>Newest stable Go</dt><dd>{name}</dd>"
    yield f"<dt>Release files</dt><dd>{len(offered)} offered, {stored} of them stored here</dd>"
    yield f"<dt>Release index</dt><dd>{index_state(catalog.status)}</dd></dl>"


def _modules(public: PublicConfig) -> Iterator[str]:
    config = public.config
    yield '<h2 id="modules">Set me up: modules</h2>'
    if public.is_example:
        yield (
            f"<p>Tenants need a token here. Put the name of yours in place of <code>"
            f"{EXAMPLE_TENANT}</code>; its administrator prints the whole set-up with <code>"
            "moorage tenant client-config</code>"
            + ("." if config.authenticated else ", and its https address.")
            + "</p>"
        )
    if public.has_private_names:
        yield (
            "<p>This tenant has private modules, too. Their names are not shown here: an "
            "administrator prints the settings with them with <code>moorage tenant client-config "
            f"{escape(config.tenant)}</code>.</p>"
        )
    yield f"<p>The address is <code>GOPROXY={escape(config.proxy_url)}</code></p>"
    yield from _texts(_NAMES, lambda target: render(target, config))


def _toolchains(catalog: Catalog, newest: Release | None, base_url: str) -> Iterator[str]:
    yield '<h2 id="toolchains">Set me up: toolchains</h2>'
    if newest is None:
        yield (
            "<p>No stable release is offered yet. An administrator can run <code>moorage releases "
            "plan</code> to see what would be mirrored and <code>moorage releases sync</code> to "
            "fetch it.</p>"
        )
        return
    files = newest.files
    yield (
        f"<p>{escape(newest.version)} from <code>{escape(base_url)}/dl</code>. Other releases and "
        'platforms are <a href="/dl/">among the downloads</a>. A file that is not stored yet is '
        "fetched and checked first: the first request waits.</p>"
    )
    names = {target: _STEP_NAMES.get(target, _NAMES[target]) for target in TARGETS}
    yield from _texts(names, lambda target: install_steps(target, base_url, files))


def _texts(names: dict[Target, str], text_for: Callable[[Target], str | None]) -> Iterator[str]:
    """Return one text for each target, folded."""
    for target, name in names.items():
        text = text_for(target)
        yield f"<details><summary>{name}</summary>"
        if text is None:
            yield "<p>This mirror does not offer the archive of the release for it.</p>"
        else:
            yield code_block(text)
        yield "</details>"
