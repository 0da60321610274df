"""A tenant whose modules are where go-import tags say."""

from dataclasses import replace

from app.core.errors import UpstreamAbsentError
from app.core.principal import OPERATOR
from app.core.routing import Upstream
from app.services.modules.gitsources import GitSource
from tests.fakes.git import FakeGit
from tests.gitparity import corpus
from tests.nouns import a_credential
from tests.web.harbour import add_route, add_tenant
from tests.web.wire import Site


async def add_named(site: Site, fake: FakeGit, upstream: Upstream, secret: str, user: str) -> str:
    """Add the tenant; return its GOPROXY.

    The pages come from the fake as they are: a host of a go-import tag is asked at port 443, which
    no test can have.
    """
    fake.subdirectories = dict(corpus.SUBDIRECTORIES)
    await add_tenant(site.services, "named")
    credential = a_credential("basic", secret, user)
    await site.services.tenants.credentials.put("named", "git", credential, OPERATOR)
    await add_route(site.services, "named", corpus.HOST, upstream, private=True, forks=True)
    sources = site.services.modules.gits._sources
    opened = sources.open

    async def page(address: str) -> bytes:
        body = fake.import_page(address)
        if body is None:
            raise UpstreamAbsentError("404", origin="", status=404)
        return body

    def opened_with_pages(*arguments: object) -> GitSource:
        source = opened(*arguments)  # type: ignore[arg-type]
        tenant = source.tenant
        return replace(source, page=page) if tenant == "named" else source

    sources.open = opened_with_pages  # type: ignore[method-assign]
    return f"{site.base}/goproxy/named"
