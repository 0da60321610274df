"""The admin API: who may, what is refused, and how refusals look."""

import base64
import importlib
import itertools
import json
import pkgutil
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from sqlalchemy import text

import app.web.admin
from app.core.audit import AuditRecord
from app.core.channel import Channel, Choice, Revision, RevisionState
from app.core.effect import Effect
from app.core.fleetmessages import Enrolment
from app.core.principal import OPERATOR
from app.core.record import Sums
from app.core.rolloutplan import RolloutPlan
from app.core.token import make_token, token_hash
from app.db.channels import ChannelTable
from app.db.engine import Session
from app.db.generation import bump_generation
from app.db.sumdb import LogTable
from app.db.tenantlogs import TenantLogTable
from app.db.tokens import RecordedToken, Tokens
from app.services.assembly import Services
from tests.nouns import a_credential, a_route, a_rule, a_tenant, an_owner, an_upstream
from tests.web.conftest import QUARANTINED, VERIFIED, Mirror
from tests.web.wire import Got, Site, request

# Everybody; platform admins; those and the tenant's own admins; every admin, who sees his own.
PUBLIC, ADMIN, TENANT, OWN = "public", "admin", "tenant", "own"
PUBLISHER = "publisher"
T = "/api/v1/tenants/{tenant}"
C = "/api/v1/channels/{channel}"
# (who may, status for an admin). A route that is not here fails the tests.
EXPECTED: dict[tuple[str, str], tuple[str, set[int]]] = {
    ("GET", "/api/v1/releases"): (PUBLIC, {200}),
    ("GET", "/api/v1/releases/plan"): (ADMIN, {200}),
    ("POST", "/api/v1/releases/sync"): (ADMIN, {202}),
    ("GET", "/api/v1/releases/keys"): (PUBLIC, {200}),
    ("POST", "/api/v1/releases/keys"): (ADMIN, {200}),
    ("GET", "/api/v1/releases/files/{filename}"): (PUBLIC, {200}),
    ("PUT", "/api/v1/releases/files/{filename}"): (PUBLISHER, {400}),  # not the name of an own one
    ("POST", "/api/v1/releases/files/{filename}/verify"): (ADMIN, {200}),
    ("GET", "/api/v1/releases/{version}"): (PUBLIC, {200}),
    ("POST", "/api/v1/releases/{version}/retire"): (ADMIN, {400}),  # not the name of an own one
    ("GET", "/api/v1/jobs"): (ADMIN, {200}),
    ("GET", "/api/v1/jobs/{job_id}"): (ADMIN, {404}),
    ("GET", "/api/v1/gc"): (ADMIN, {200}),
    ("POST", "/api/v1/gc"): (ADMIN, {202}),
    ("GET", "/api/v1/storage"): (ADMIN, {200}),
    ("GET", "/api/v1/tenants"): (OWN, {200}),
    ("POST", "/api/v1/tenants"): (ADMIN, {201}),
    ("GET", T): (TENANT, {200}),
    ("PATCH", T): (TENANT, {200}),
    ("GET", f"{T}/storage"): (TENANT, {200}),
    ("DELETE", T): (ADMIN, {204}),
    ("GET", f"{T}/client-config"): (TENANT, {200}),
    ("GET", "/api/v1/tokens"): (ADMIN, {200}),
    ("POST", "/api/v1/tokens"): (ADMIN, {201}),
    ("POST", "/api/v1/tokens/{token_id}/rotate"): (ADMIN, {201}),
    ("DELETE", "/api/v1/tokens/{token_id}"): (ADMIN, {204}),
    ("GET", f"{T}/tokens"): (TENANT, {200}),
    ("POST", f"{T}/tokens"): (TENANT, {201}),
    ("POST", f"{T}/tokens/{{token_id}}/rotate"): (TENANT, {201}),
    ("DELETE", f"{T}/tokens/{{token_id}}"): (TENANT, {204}),
    ("GET", f"{T}/credentials"): (TENANT, {200}),
    ("PUT", f"{T}/credentials/{{name}}"): (TENANT, {200}),
    ("DELETE", f"{T}/credentials/{{name}}"): (TENANT, {204}),
    ("POST", f"{T}/hook"): (TENANT, {201}),
    ("GET", "/api/v1/ownership"): (ADMIN, {200}),
    ("PUT", "/api/v1/ownership/{prefix}"): (ADMIN, {200}),
    ("DELETE", "/api/v1/ownership/{prefix}"): (ADMIN, {204}),
    ("GET", "/api/v1/rules"): (ADMIN, {200}),
    ("POST", "/api/v1/rules"): (ADMIN, {201}),
    ("GET", "/api/v1/rules/{rule_id}"): (ADMIN, {200}),
    ("PUT", "/api/v1/rules/{rule_id}"): (ADMIN, {200}),
    ("DELETE", "/api/v1/rules/{rule_id}"): (ADMIN, {204}),
    ("GET", f"{T}/rules"): (TENANT, {200}),
    ("POST", f"{T}/rules"): (TENANT, {201}),
    ("GET", f"{T}/rules/{{rule_id}}"): (TENANT, {200}),
    ("PUT", f"{T}/rules/{{rule_id}}"): (TENANT, {200}),
    ("DELETE", f"{T}/rules/{{rule_id}}"): (TENANT, {204}),
    ("GET", f"{T}/routes"): (TENANT, {200}),
    ("POST", f"{T}/routes"): (TENANT, {201}),
    ("GET", f"{T}/routes/{{route_id}}"): (TENANT, {200}),
    ("PUT", f"{T}/routes/{{route_id}}"): (TENANT, {200}),
    ("DELETE", f"{T}/routes/{{route_id}}"): (TENANT, {204}),
    ("GET", f"{T}/explain"): (TENANT, {200}),
    ("POST", f"{T}/refresh"): (TENANT, {200}),
    ("GET", f"{T}/published"): (TENANT, {200}),
    ("POST", f"{T}/published/retire"): (TENANT, {404}),
    ("POST", "/api/v1/apply"): (ADMIN, {200}),
    ("GET", f"{T}/log"): (TENANT, {200}),
    ("POST", f"{T}/log"): (TENANT, {201}),
    ("GET", f"{T}/log/proof"): (TENANT, {200}),
    ("POST", f"{T}/log/verify"): (TENANT, {200}),
    ("POST", f"{T}/log/recover"): (TENANT, {200}),
    ("POST", f"{T}/sumdb/prefetch"): (TENANT, {200}),
    ("GET", "/api/v1/sumdb"): (ADMIN, {200}),
    ("GET", "/api/v1/sumdb/{log}/evidence"): (ADMIN, {200}),
    ("POST", "/api/v1/channels/{channel}/rollouts"): (ADMIN, {201}),
    ("GET", "/api/v1/rollouts"): (ADMIN, {200}),
    ("GET", "/api/v1/rollouts/{rollout}"): (ADMIN, {200}),
    ("POST", "/api/v1/rollouts/{rollout}/{action}"): (ADMIN, {200}),
    ("GET", "/api/v1/nodes"): (ADMIN, {200}),
    ("GET", "/api/v1/nodes/{node}"): (ADMIN, {200}),
    ("POST", "/api/v1/nodes/{node}/hold"): (ADMIN, {200}),
    ("POST", "/api/v1/nodes/{node}/release"): (ADMIN, {200}),
    ("POST", "/api/v1/nodes/{node}/move"): (ADMIN, {200}),
    ("POST", "/api/v1/nodes/{node}/retire"): (ADMIN, {200}),
    ("GET", "/api/v1/enroll-tokens"): (ADMIN, {200}),
    ("POST", "/api/v1/enroll-tokens"): (ADMIN, {201}),
    ("DELETE", "/api/v1/enroll-tokens/{token_id}"): (ADMIN, {204}),
    ("GET", "/api/v1/webhooks"): (ADMIN, {200}),
    ("POST", "/api/v1/webhooks"): (ADMIN, {201}),
    ("DELETE", "/api/v1/webhooks/{webhook_id}"): (ADMIN, {204}),
    ("POST", "/api/v1/webhooks/{webhook_id}/test"): (ADMIN, {200}),
    ("GET", "/api/v1/audit"): (ADMIN, {200}),
    ("GET", "/api/v1/audit/verify"): (ADMIN, {200}),
    ("POST", "/api/v1/audit/recover"): (ADMIN, {200}),
    ("GET", "/api/v1/audit/downloads"): (OWN, {200}),
    ("GET", "/api/v1/audit/denials"): (OWN, {200}),
    ("GET", "/api/v1/channels"): (OWN, {200}),
    ("POST", "/api/v1/channels"): (ADMIN, {201}),
    ("GET", C): (OWN, {200}),
    ("PATCH", C): (ADMIN, {200}),
    ("DELETE", C): (ADMIN, {204}),
    ("GET", f"{C}/revisions"): (OWN, {200}),
    ("POST", f"{C}/revisions"): (ADMIN, {201}),
    ("GET", f"{C}/revisions/{{revision}}"): (OWN, {200}),
    ("GET", f"{C}/diff"): (OWN, {200}),
    ("POST", f"{C}/rollback"): (ADMIN, {201}),
    ("GET", "/api/v1/channel-key"): (PUBLIC, {200}),
    ("POST", "/api/v1/channel-key"): (ADMIN, {201}),
    ("GET", "/healthz"): (PUBLIC, {200}),
    ("GET", "/readyz"): (PUBLIC, {200}),
    ("GET", "/version"): (PUBLIC, {200}),
    ("GET", "/metrics"): (PUBLIC, {200}),
}
# What each change writes into the audit log: one row for each object that it changes.
AUDITED: dict[tuple[str, str], list[str]] = {
    ("POST", "/api/v1/tenants"): ["tenant.create", "route.create"],
    ("PATCH", T): ["tenant.update"],
    ("PUT", "/api/v1/releases/files/{filename}"): ["access.malformed"],
    ("POST", "/api/v1/releases/{version}/retire"): ["access.malformed"],
    ("DELETE", T): ["tenant.remove"],
    ("POST", "/api/v1/tokens"): ["token.create"],
    ("POST", "/api/v1/tokens/{token_id}/rotate"): ["token.create", "token.rotate"],
    ("DELETE", "/api/v1/tokens/{token_id}"): ["token.revoke"],
    ("POST", f"{T}/tokens"): ["token.create"],
    ("POST", f"{T}/tokens/{{token_id}}/rotate"): ["token.create", "token.rotate"],
    ("DELETE", f"{T}/tokens/{{token_id}}"): ["token.revoke"],
    ("PUT", f"{T}/credentials/{{name}}"): ["credential.put"],
    ("POST", f"{T}/hook"): ["credential.put"],
    ("DELETE", f"{T}/credentials/{{name}}"): ["credential.remove"],
    ("PUT", "/api/v1/ownership/{prefix}"): ["ownership.put"],
    ("DELETE", "/api/v1/ownership/{prefix}"): ["ownership.remove"],
    ("POST", "/api/v1/rules"): ["rule.create"],
    ("PUT", "/api/v1/rules/{rule_id}"): ["rule.update"],
    ("DELETE", "/api/v1/rules/{rule_id}"): ["rule.remove"],
    ("POST", f"{T}/rules"): ["rule.create"],
    ("PUT", f"{T}/rules/{{rule_id}}"): ["rule.update"],
    ("DELETE", f"{T}/rules/{{rule_id}}"): ["rule.remove"],
    ("POST", f"{T}/routes"): ["route.create"],
    ("PUT", f"{T}/routes/{{route_id}}"): ["route.update"],
    ("DELETE", f"{T}/routes/{{route_id}}"): ["route.remove"],
    ("POST", f"{T}/refresh"): ["module.refresh"],
    ("POST", "/api/v1/apply"): ["tenant.create"],
    ("POST", f"{T}/log"): ["sumdb.create"],
    ("POST", f"{T}/log/recover"): ["sumdb.recover"],
    ("POST", "/api/v1/channels/{channel}/rollouts"): ["channel.propose", "rollout.start"],
    ("POST", "/api/v1/rollouts/{rollout}/{action}"): ["rollout.pause"],
    ("POST", "/api/v1/nodes/{node}/hold"): ["node.hold"],
    ("POST", "/api/v1/nodes/{node}/release"): ["node.release"],
    ("POST", "/api/v1/nodes/{node}/move"): ["node.move"],
    ("POST", "/api/v1/nodes/{node}/retire"): ["node.retire"],
    ("POST", "/api/v1/enroll-tokens"): ["enroll-token.create"],
    ("DELETE", "/api/v1/enroll-tokens/{token_id}"): ["enroll-token.remove"],
    ("POST", "/api/v1/webhooks"): ["webhook.create"],
    ("DELETE", "/api/v1/webhooks/{webhook_id}"): ["webhook.remove"],
    ("POST", "/api/v1/audit/recover"): ["audit.recover"],
    ("POST", f"{T}/sumdb/prefetch"): ["sumdb.prefetch"],
    ("POST", "/api/v1/channels"): ["channel.create"],
    ("PATCH", C): ["channel.update"],
    ("DELETE", C): ["channel.remove"],
    ("POST", f"{C}/rollback"): ["channel.rollback"],
    ("POST", "/api/v1/channel-key"): ["channel.key"],
}
CHANGES_NOTHING = {
    # Here: the keys are the same, the file was judged, the sync is a job's, and the channel
    # offers just that.
    ("POST", f"{C}/revisions"),
    ("POST", "/api/v1/gc"),  # a job, as a sync
    ("POST", "/api/v1/releases/sync"),
    ("POST", "/api/v1/releases/keys"),
    ("POST", "/api/v1/releases/files/{filename}/verify"),
    ("POST", f"{T}/log/verify"),
    ("POST", f"{T}/published/retire"),  # nothing is published; see test_publishing.py
    ("POST", "/api/v1/webhooks/{webhook_id}/test"),
}
FILLED = {
    "{filename}": VERIFIED,
    "{version}": "go1.99.2",
    "{job_id}": "0123456789abcdef",
    "{tenant}": "acme",
    "{name}": "artifactory",
    "{prefix}": "corp.example/acme",
    "{log}": "sum.golang.org",
    "{revision}": "1",
}
RULE_BODY = b'{"effect": "deny", "pattern": "made-%d.example"}'
ROUTE_BODY = b'{"pattern": "made-%d.example", "upstreams": ["https://proxy.example"]}'
TOKEN_BODY = b'{"name": "made %d", "scopes": ["read"]}'
BODIES = {
    ("POST", "/api/v1/releases/keys"): b"{}",
    ("POST", "/api/v1/releases/{version}/retire"): b"{}",
    ("POST", "/api/v1/tenants"): b'{"name": "made-%d"}',
    ("PATCH", T): b'{"title": "title %d"}',
    ("POST", "/api/v1/tokens"): TOKEN_BODY,
    ("POST", f"{T}/tokens"): TOKEN_BODY,
    ("POST", "/api/v1/tokens/{token_id}/rotate"): b"{}",
    ("POST", f"{T}/tokens/{{token_id}}/rotate"): b"{}",
    ("PUT", f"{T}/credentials/{{name}}"): b'{"kind": "bearer", "secret": "s3cret"}',
    ("POST", "/api/v1/rules"): RULE_BODY,
    ("PUT", "/api/v1/rules/{rule_id}"): RULE_BODY,
    ("POST", f"{T}/rules"): RULE_BODY,
    ("PUT", f"{T}/rules/{{rule_id}}"): RULE_BODY,
    ("POST", f"{T}/routes"): ROUTE_BODY,
    ("PUT", f"{T}/routes/{{route_id}}"): ROUTE_BODY,
    ("POST", f"{T}/refresh"): b'{"module": "example.com/x"}',
    ("POST", f"{T}/published/retire"): b'{"module": "example.com/x", "version": "v1.0.0"}',
    ("POST", "/api/v1/apply"): b'{"document": {"tenants": {"applied-%d": {}}}}',
    ("POST", "/api/v1/channels/{channel}/rollouts"): b'{"current": "go1.97.9"}',
    ("POST", "/api/v1/rollouts/{rollout}/{action}"): b'{"reason": "a test"}',
    ("POST", "/api/v1/nodes/{node}/hold"): b'{"reason": "a test"}',
    ("POST", "/api/v1/nodes/{node}/move"): b'{"group": "canary"}',
    ("POST", "/api/v1/enroll-tokens"): b'{"channel": "fleet"}',
    ("POST", "/api/v1/webhooks"): b'{"url": "https://hooks.example/"}',
    ("POST", f"{T}/log/recover"): b'{"accept": true}',
    ("POST", f"{T}/sumdb/prefetch"): b'{"modules": ["malformed"]}',
    ("POST", "/api/v1/channels"): b'{"name": "made-%d"}',
    ("PATCH", C): b'{"title": "title %d"}',
    ("POST", f"{C}/revisions"): b'{"current": "go1.99.2"}',
    ("POST", f"{C}/rollback"): b"{}",
    ("PUT", "/api/v1/ownership/{prefix}"): b'{"tenant": "acme", "granted": ["other"]}',
}
CREDENTIALS = [
    "none",
    "malformed",
    "unknown",
    "revoked",
    "expired",
    "other scope",
    "reader of it",
    "admin of it",
    "admin of another",
    "valid",
]
UNAUTHENTICATED = set(CREDENTIALS[:5])
MAY = {
    PUBLIC: set(CREDENTIALS),
    ADMIN: {"valid"},
    PUBLISHER: {"valid"},
    TENANT: {"valid", "admin of it"},
    OWN: {"valid", "admin of it", "admin of another"},
}
_count = itertools.count()
LOGGED = Sums(f"h1:{'A' * 43}=", f"h1:{'A' * 43}=")


def target_of(path: str, more: Mapping[str, str] | None = None) -> str:
    for name, value in {**FILLED, **(more or {})}.items():
        path = path.replace(name, value)
    return path


async def prepared(site: Site, method: str, path: str) -> dict[str, str]:
    """Make what a route is about, where it is not there; return what its path is filled with."""
    services = site.services
    present = {tenant.name for tenant in await services.tenants.tenants.page(OPERATOR)}
    for tenant in {"acme", "other"} - present:
        draft = a_tenant(tenant, default=Effect.ALLOW, anonymous_read=True)
        await services.tenants.tenants.create(draft, OPERATOR)
    if "{name}" in path:
        await services.tenants.credentials.put(
            "acme", "artifactory", a_credential("bearer", "s3cret"), OPERATOR
        )
    if "{prefix}" in path:
        await services.tenants.ownership.put(an_owner("corp.example/acme", "acme"), OPERATOR)
    if "{rule_id}" in path:
        rule = a_rule(Effect.DENY, f"made-{next(_count)}.example")
        whose = "acme" if "{tenant}" in path else None
        return {"{rule_id}": str((await services.tenants.rules.create(whose, rule, OPERATOR)).id)}
    if "{route_id}" in path:
        upstreams = (an_upstream("https://proxy.example"),)
        route = a_route(f"made-{next(_count)}.example", *upstreams)
        return {
            "{route_id}": str((await services.tenants.routes.create("acme", route, OPERATOR)).id)
        }
    if any(noun in path for noun in ("rollout", "/nodes", "/enroll-tokens", "/webhooks")):
        return await prepared_fleet(services, path)
    if "/channel" in path:
        return await prepared_channel(services)
    if "{log}" in path:
        at = services.shared.now()
        await services.shared.db.write(
            lambda s: LogTable(s, "sum.golang.org").add_evidence(b"", b"\xff", "forged", at)
        )
    if path.endswith("/prefetch"):
        await services.sumdb.logs.create("acme")
    if path == "/api/v1/audit/recover":
        heads = services.shared.settings.data_dir / "keys" / "logs"
        (heads / "audit.chain").write_text("damaged")
    if path.startswith(f"{T}/log"):
        return await prepared_log(services, method, path)
    if path.endswith("/explain"):
        return {"/explain": "/explain?module=example.com/x"}
    if "{token_id}" in path:
        made, _ = await services.tenants.tokens.create(f"made {next(_count)}", tenant="acme")
        return {"{token_id}": made.id}
    return {}


async def prepared_channel(services: Services) -> dict[str, str]:
    """Make a channel with two revisions of a release; the first channel makes the key, too."""
    name, at = f"made-{next(_count)}", services.shared.now()
    channel = await services.fleet.channels.create(Channel(name=name), OPERATOR)
    first, second = (
        Revision(
            current="go1.99.2",
            reason=f"for test {number}",
            channel=name,
            revision=number,
            state=state,
            actor="cli",
            created_at=at,
            offered_at=at,
        )
        for number, state in ((1, RevisionState.PAST), (2, RevisionState.CURRENT))
    )

    def add(session: Session) -> None:
        ChannelTable(session).add_revision(channel.id, first)
        ChannelTable(session).add_revision(channel.id, second)

    await services.shared.db.write(add)
    return {"{channel}": name}


async def prepared_fleet(services: Services, path: str) -> dict[str, str]:
    """Make a channel, and the rollout, node, token or webhook that a path is about."""
    fleet, channel = services.fleet, f"fleet-{next(_count)}"
    if "fleet" not in {c.name for c in await fleet.channels.page(OPERATOR)}:
        await fleet.channels.create(Channel(name="fleet"), OPERATOR)
    await fleet.channels.create(Channel(name=channel), OPERATOR)
    filled = {"{channel}": channel, "{action}": "pause"}
    if "rollout" in path:
        await services.releases.ingestion.ensure("go1.97.9.src.tar.gz", forced=True)
    if "{rollout}" in path:
        choice = Choice(current="go1.97.9")
        status = await fleet.rollouts.start(channel, choice, RolloutPlan(), OPERATOR)
        filled["{rollout}"] = status.rollout.id
    if "{node}" in path or "{token_id}" in path:
        token, secret = await fleet.enrolment.create_token(OPERATOR, channel)
        enrolled = await fleet.enrolment.enrol(Enrolment(token=secret, name=channel))
        filled |= {"{node}": enrolled.node.id, "{token_id}": token.id}
    if "{webhook_id}" in path:
        webhook, _ = await services.upkeep.webhooks.add("https://hooks.example/", OPERATOR)
        filled["{webhook_id}"] = webhook.id
    return filled


async def prepared_log(services: Services, method: str, path: str) -> dict[str, str]:
    if (method, path) == ("POST", f"{T}/log"):
        acme = (await services.tenants.tenants.get("acme", OPERATOR)).id
        await services.shared.db.write(lambda s: TenantLogTable(s).release_of([acme]))
        return {}
    log = await services.sumdb.logs.create("acme")
    # Named as `HeadFiles` does; with its head unreadable a log waits for its operator.
    head = services.shared.settings.data_dir / "keys" / "logs" / f"{quote(log.name, safe='')}.head"
    head.unlink(missing_ok=True)
    await services.sumdb.logs.append(log, "example.com/x", "v1.0.0", LOGGED)
    if path.endswith("/recover"):
        head.write_text("damaged")
    return {"/proof": "/proof?module=example.com/x&version=v1.0.0"}


async def schema(site: Site) -> dict[str, Any]:
    document = json.loads((await site.ask("/openapi.json")).body)
    assert isinstance(document, dict)
    return document


# Scope and tenant of a token of every sort that was one once.
RECORDED = {
    "revoked": ("admin", None),
    "expired": ("admin", None),
    "other scope": ("read", None),
    "reader of it": ("read", "acme"),
    "admin of it": ("admin", "acme"),
    "admin of another": ("admin", "other"),
}
SECRETS = {name: make_token(name.ljust(32).encode()) for name in RECORDED}


async def tokens(site: Site) -> Mapping[str, str | None]:
    """Return a token of every sort; those of tenants that are there are made where they lack."""
    services, now = site.services, site.services.shared.now()
    tenants = {tenant.name: tenant.id for tenant in await services.tenants.tenants.page(OPERATOR)}
    present = {token.name for token in await services.tenants.tokens.page()}
    missing = {
        n: of for n, of in RECORDED.items() if n not in present and of[1] in (None, *tenants)
    }

    def add(session: Session) -> None:
        for name, (scope, tenant) in missing.items():
            sha256 = token_hash(SECRETS[name])
            expires_at = now - timedelta(seconds=1) if name == "expired" else None
            revoked_at = now if name == "revoked" else None
            token = RecordedToken(
                id=sha256[:8],
                name=name,
                scopes=frozenset({scope}),
                created_at=now,
                expires_at=expires_at,
                revoked_at=revoked_at,
            )
            Tokens(session).add(token, sha256, tenants[tenant] if tenant else None)
        bump_generation(session)

    if missing:
        await services.shared.db.write(add)
    return {
        "none": None,
        "malformed": site.secret[:-1],
        "unknown": make_token(b"u" * 32),
        **SECRETS,
        "valid": site.secret,
    }


def is_problem(got: Got, status: int) -> dict[str, Any]:
    assert got.status == status
    assert got.header("content-type") == "application/problem+json"
    assert got.header("cache-control") == "no-store"
    assert len(got.header("x-request-id") or "") == 16
    problem = json.loads(got.body)
    assert (
        {"type", "title", "status", "detail"}
        <= set(problem)
        <= {
            "type",
            "title",
            "status",
            "detail",
            "errors",
        }
    )
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in got.text
    return dict(problem)


async def test_every_route_is_expected_and_every_expectation_is_a_route(mirror: Mirror) -> None:
    paths = (await schema(mirror.site))["paths"]
    routes = {(method.upper(), path) for path, verbs in paths.items() for method in verbs}
    assert routes == set(EXPECTED)


async def rows_after(site: Site, seq: int) -> list[AuditRecord]:
    """Return the audit rows since, without those of jobs: they run at their own time."""
    await site.services.shared.refusals.flush(all_windows=True)
    rows = await site.services.shared.audit.list(after=seq, limit=1000)
    return [row for row in rows if not row.action.startswith("job.")]


async def last_row(site: Site) -> int:
    query = text("select max(seq) from audit")
    return int(await site.services.shared.db.read(lambda s: s.execute(query).scalar()) or 0)


async def ids_of_tokens(site: Site) -> dict[str, str]:
    """Return the id of each recorded token by the hash of its secret."""
    by_secret = await site.services.shared.db.read(lambda s: Tokens(s).by_sha256())
    return {sha256: recorded.id for sha256, recorded in by_secret.items()}


@pytest.mark.parametrize(("method", "path"), list(EXPECTED))
async def test_F22_F28_a_route_answers_only_who_may(mirror: Mirror, method: str, path: str) -> None:
    """What a route is about is made anew after a change, which may have used it up."""
    site = mirror.site
    who, statuses = EXPECTED[method, path]
    is_used_up = True
    for credential in CREDENTIALS:
        if is_used_up:
            target = target_of(path, await prepared(site, method, path))
            secrets, ids = await tokens(site), await ids_of_tokens(site)
            seq = await last_row(site)
        may, token = credential in MAY[who], secrets[credential]
        is_denied = not may and credential not in UNAUTHENTICATED
        got = await asked_with(site, token, (method, path), target)
        refusal = {403} if is_denied else {401}
        assert got.status in (statuses if may else refusal), (credential, got.body[:300])
        if got.status in (401, 403, 404):
            is_problem(got, got.status)
        assert (got.header("www-authenticate") == 'Bearer realm="moorage"') is (got.status == 401)
        assert token is None or token not in got.text, credential

        # A change leaves its rows and a denial one; who is nobody, or only looks, leaves none.
        rows = await rows_after(site, seq)
        changed = AUDITED.get((method, path), []) if may else []
        expected = ["access.deny"] if is_denied else changed
        assert [row.action for row in rows] == expected, credential
        if is_denied:
            assert rows[0].object == f"{method} {target.partition('?')[0]}"
            assert rows[0].detail.startswith("once at ")
            assert rows[0].detail.endswith(f"Z: {json.loads(got.body)['detail']}")
        whose = ids.get(token_hash(token or ""), "nobody")
        assert {row.actor for row in rows} <= {f"token:{whose}"}, credential
        seq = max([seq, *(row.seq for row in rows)])
        is_used_up = may and method != "GET"


async def asked_with(site: Site, token: str | None, route: tuple[str, str], target: str) -> Got:
    """Return the answer of a route, asked with a body of its kind, and a token or none."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body = BODIES.get(route, b"")
    if body:
        headers["Content-Type"] = "application/json"
    return await site.ask(target, route[0], headers, body.replace(b"%d", b"%d" % next(_count)))


def dependencies(dependant: Any) -> set[str]:
    """Return the names of all that a route depends on."""
    names = {getattr(dependant.call, "__name__", "")}
    for one in dependant.dependencies:
        names |= dependencies(one)
    return names


def test_every_route_declares_who_may() -> None:
    declared = {}
    for module in pkgutil.iter_modules(app.web.admin.__path__, "app.web.admin."):
        router = getattr(importlib.import_module(module.name), "router", APIRouter())
        if "health" in router.tags:
            continue
        for route in router.routes:
            assert isinstance(route, APIRoute)
            names = dependencies(route.dependant)
            kinds = ("_admin", "_publisher", "_caller")  # the first two need the third
            who = next((kind for kind in kinds if kind in names), None)
            declared |= {(method, f"/api/v1{route.path_format}"): who for method in route.methods}
    needed = {
        PUBLIC: None,
        ADMIN: "_admin",
        TENANT: "_caller",
        OWN: "_caller",
        PUBLISHER: "_publisher",
    }
    assert declared == {
        route: needed[who] for route, (who, _) in EXPECTED.items() if route[1].startswith("/api/")
    }


async def test_every_change_needs_a_token_and_is_audited() -> None:
    changes = {route for route in EXPECTED if route[0] != "GET"}
    assert all(EXPECTED[route][0] != PUBLIC for route in changes)
    assert changes == set(AUDITED) | CHANGES_NOTHING


async def test_routes_that_need_a_token_say_so_in_the_schema(mirror: Mirror) -> None:
    paths = (await schema(mirror.site))["paths"]
    for (method, path), (who, _) in EXPECTED.items():
        declared = set(paths[path][method.lower()]["responses"])
        assert (who != PUBLIC) is ({"401", "403"} <= declared), (method, path)


def basic(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


# F23: none of these is a 500.
BAD_AUTHORIZATIONS = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer  ",
    "bearer x",
    "Bearer moor_",
    "Bearer moor_" + "0" * 49,
    "Digest username=x",
    "Basic",
    "Basic ",
    "Basic !!!",
    "Basic " + "A" * 3,
    basic(b"no colon"),
    basic(b":"),
    basic(b"user:"),
    basic(b"user:\x00"),
    basic("user:pässwörd".encode()),
    basic(b"\xff\xfe:\xff"),
    "Basic " + "A" * 8000,
    "Bearer " + "a" * 8000,
    "Bearer \xe4\xf6\xfc",
    "Bearer a b",
]


@pytest.mark.parametrize("value", BAD_AUTHORIZATIONS, ids=range(len(BAD_AUTHORIZATIONS)))
async def test_F23_an_authorization_that_cannot_be_read_is_401(mirror: Mirror, value: str) -> None:
    got = await mirror.site.ask("/api/v1/releases/plan", headers={"Authorization": value})
    problem = is_problem(got, 401)
    if len(value) > 12:
        assert value.partition(" ")[2] not in json.dumps(problem)


async def test_F24_two_authorization_headers_are_400(mirror: Mirror) -> None:
    good = f"Authorization: Bearer {mirror.site.secret}\r\n".encode()
    head = b"GET /api/v1/releases/plan HTTP/1.1\r\nHost: x\r\n"
    async with mirror.site.calling() as caller:
        await caller.send(head + good + good + b"\r\n")
        is_problem(await caller.response(), 400)


async def test_F25_a_token_in_the_query_is_ignored(mirror: Mirror) -> None:
    secret = mirror.site.secret
    got = await mirror.site.ask(f"/api/v1/releases/plan?token={secret}&access_token={secret}")
    is_problem(got, 401)
    assert secret not in got.text


@pytest.mark.parametrize("scheme", ["Bearer {}", "bearer {}", "token {}", "TOKEN {}"])
async def test_a_token_is_taken_in_the_forms_that_clients_send(mirror: Mirror, scheme: str) -> None:
    headers = {"Authorization": scheme.format(mirror.site.secret)}
    assert (await mirror.site.ask("/api/v1/releases/plan", headers=headers)).status == 200
    headers = {"Authorization": basic(f"anybody:{mirror.site.secret}".encode())}
    assert (await mirror.site.ask("/api/v1/releases/plan", headers=headers)).status == 200


UNKNOWN = [
    "/api/v1/nope",
    "/api",
    "/api/v1",
    "/nope",
    "//",
    "/api/v1/releases/go9.99",
    "/api/v1/releases/%00",
    "/api/v1/releases/%ff",
    "/api/v1/releases/'%20OR%201=1--",
    "/api/v1/releases/files/nope",
    "/api/v1/releases/files/%3Cscript%3E",
    "/api/v1/releases/files/..",
    "/api/v1/releases/files/..%2f..%2fetc%2fpasswd",
    "/ui/",
    "/dlx",
    "/gox/",
]


@pytest.mark.parametrize("target", UNKNOWN)
async def test_what_is_not_there_is_a_404_problem(mirror: Mirror, target: str) -> None:
    is_problem(await mirror.site.ask(target), 404)


WRONG_METHODS = [
    ("DELETE", "/api/v1/releases"),
    ("PUT", "/api/v1/releases/go1.99.2"),
    ("GET", "/api/v1/releases/files/x/verify"),
    ("POST", "/healthz"),
    ("POST", "/docs"),
    ("TRACE", "/api/v1/releases"),
]


@pytest.mark.parametrize(("method", "target"), WRONG_METHODS)
async def test_another_method_is_a_405_problem_with_allow(
    mirror: Mirror, method: str, target: str
) -> None:
    got = await mirror.site.ask(target, method)
    is_problem(got, 405)
    assert got.header("allow")


QUERIES = [
    ("limit=0", 422),
    ("limit=-1", 422),
    ("limit=201", 422),
    ("limit=9" + "9" * 30, 422),
    ("limit=9" + "9" * 1500, 422),
    ("limit=1.5", 422),
    ("limit=x", 422),
    ("limit=", 422),
    ("limit=%00", 422),
    ("offered=maybe", 422),
    ("cursor=" + "a" * 65, 422),
    ("cursor=go9.9.9", 400),
    ("cursor=", 400),
    ("cursor=%00", 400),
    ("cursor=%ff", 400),
    ("cursor=%0d%0aX-Evil:%201", 400),
    ("cursor=<script>", 400),
]


@pytest.mark.parametrize(("query", "status"), QUERIES, ids=range(len(QUERIES)))
async def test_F98_a_malformed_query_is_a_problem(mirror: Mirror, query: str, status: int) -> None:
    got = await mirror.site.ask(f"/api/v1/releases?{query}")
    is_problem(got, status)
    assert got.header("x-evil") is None


KEYS = "/api/v1/releases/keys"
MALFORMED_BODIES = [
    (b"", 422),
    (b"not json", 422),
    (b"{", 422),
    (b"[]", 422),
    (b"null", 422),
    (b"1", 422),
    (b'"text"', 422),
    (b'{"unknown": 1}', 422),
    (b'{"armored": 1}', 422),
    (b'{"armored": ["x"]}', 422),
    (b'{"fetch": "perhaps"}', 422),
    (b'{"replace": 2}', 422),
    (b'{"replace": null}', 422),
    (b'{"armored": "\\ud800"}', 422),
    (b'{"\\ud800": 1}', 422),
    (b'{"armored": NaN}', 422),
    (b'{"fetch": Infinity}', 422),
    (b'{"fetch": 1e999}', 422),
    (b'{"fetch": ' + b"9" * 5000 + b"}", 422),
    (b"\xff\xfe{}", 422),
    (b'{"armored": "\xff"}', 422),
    (b"[" * 10_000 + b"]" * 10_000, 422),
    (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 422),
    (b'{"armored": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 422),
    (b'{"armored": "' + b"a" * 1_000_000 + b'"}', 422),
]


@pytest.mark.parametrize(("body", "status"), MALFORMED_BODIES, ids=range(len(MALFORMED_BODIES)))
async def test_F98_a_malformed_body_is_a_problem(mirror: Mirror, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    got = await mirror.site.admin(KEYS, "POST", body=body, headers=headers)
    assert got.status in (400, status)
    is_problem(got, got.status)
    assert len(got.body) < 2000


async def test_a_validation_problem_says_where_and_what(mirror: Mirror) -> None:
    got = await mirror.site.admin(KEYS, "POST", body=b'{"fetch": "perhaps", "extra": 1}')
    problem = is_problem(got, 422)
    assert {error["at"] for error in problem["errors"]} == {"body.fetch", "body.extra"}
    assert all(set(error) == {"at", "error"} for error in problem["errors"])


async def test_a_value_in_the_wrong_field_is_not_echoed(mirror: Mirror) -> None:
    secret = mirror.site.secret
    for body in ({"fetch": secret}, {"extra": secret}, {"armored": [secret]}, [secret], secret):
        got = await mirror.site.admin(KEYS, "POST", body=json.dumps(body).encode())
        is_problem(got, 422)
        assert secret not in got.text
    got = await mirror.site.ask(f"/api/v1/releases?limit={secret}")
    is_problem(got, 422)
    assert secret not in got.text


CONTENT_TYPES = [
    ("application/json", 422),
    ("application/json; charset=utf-8", 422),
    ("application/problem+json", 422),
    ("text/plain", 415),
    ("application/x-www-form-urlencoded", 415),
    ("multipart/form-data", 415),
    ("application/octet-stream", 415),
    ("junk", 415),
    ("\xff", 415),
]


@pytest.mark.parametrize(("kind", "status"), CONTENT_TYPES)
async def test_a_body_that_is_not_json_is_415(mirror: Mirror, kind: str, status: int) -> None:
    got = await mirror.site.admin(
        KEYS, "POST", body=b'{"unknown": 1}', headers={"Content-Type": kind}
    )
    is_problem(got, status)


MAX = 1 << 20


async def test_F98_a_body_over_1_MiB_is_413_when_declared(mirror: Mirror) -> None:
    body = b'{"armored": "' + b"a" * (MAX - 14) + b'"}'
    assert len(body) == MAX + 1
    for token in ("", None):
        is_problem(await mirror.site.admin(KEYS, "POST", token=token, body=body), 413)
    # Not even read: only its length is declared.
    declared = {"Content-Length": str(10**18), "Content-Type": "application/json"}
    async with mirror.site.calling() as caller:
        await caller.send(request(KEYS, "POST", declared))
        is_problem(await caller.response(), 413)


async def test_F98_a_body_over_1_MiB_is_413_when_chunked(mirror: Mirror) -> None:
    headers = {
        "Transfer-Encoding": "chunked",
        "Content-Type": "application/json",
        "Authorization": f"Bearer {mirror.site.secret}",
    }
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    for count, status in ((15, 422), (17, 413)):
        async with mirror.site.calling() as caller:
            await caller.send(request(KEYS, "POST", headers))
            for _ in range(count):
                await caller.send(piece)
            await caller.send(b"0\r\n\r\n")
            is_problem(await caller.response(), status)


async def test_F98_sql_and_html_in_names_are_names(mirror: Mirror) -> None:
    for name in ("'; DROP TABLE release_files; --", "<img src=x onerror=alert(1)>", "%_%"):
        quoted = "".join(f"%{byte:02x}" for byte in name.encode())
        is_problem(await mirror.site.ask(f"/api/v1/releases/files/{quoted}"), 404)
        is_problem(await mirror.site.admin(f"/api/v1/releases/files/{quoted}/verify", "POST"), 404)
    assert (await mirror.site.ask(f"/api/v1/releases/files/{VERIFIED}")).status == 200


async def test_the_schema_is_valid_openapi(mirror: Mirror) -> None:
    document = await schema(mirror.site)
    assert re.fullmatch(r"3\.1\.\d", document["openapi"])
    assert document["info"]["title"] == "Moorage"
    ids = [verb["operationId"] for verbs in document["paths"].values() for verb in verbs.values()]
    assert len(ids) == len(set(ids))
    models = document["components"]["schemas"]
    for reference in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert reference in models
    for path, verbs in document["paths"].items():
        for verb in verbs.values():
            declared = {p["name"] for p in verb.get("parameters", ()) if p["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))
            assert verb["responses"]


async def test_the_reference_of_the_api_answers_and_loads_nothing_from_elsewhere(
    mirror: Mirror,
) -> None:
    got = await mirror.site.ask("/docs")
    assert got.status == 200
    assert (got.header("content-type") or "").startswith("text/html")
    for _, path in EXPECTED:
        assert path in got.text
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", got.text)


async def test_an_error_of_the_mirror_is_a_problem_with_its_status(mirror: Mirror) -> None:
    got = await mirror.site.admin("/api/v1/releases/files/nope/verify", "POST")
    assert "nope" in is_problem(got, 404)["detail"]
    # A file that stays held back is an answer, not an error.
    got = await mirror.site.admin(f"/api/v1/releases/files/{QUARANTINED}/verify", "POST")
    assert (got.status, json.loads(got.body)["state"]) == (200, "quarantined")
