"""Applying documents: exactly, all or nothing, and leaving alone what is so already."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from app.core.acl import Rule
from app.core.credential import SecretCredential
from app.core.effect import Effect
from app.core.errors import BadInputError, ConflictError, DeniedError, UnknownError
from app.core.principal import OPERATOR, Principal, Scope
from app.core.routing import OnAbsent
from app.core.tenant import TenantLimits
from app.services.assembly import Services
from app.services.secrets import place_of
from app.services.tenants.plan import Document, TenantPart
from app.services.tenants.snapshot import Action, Change, Facts, facts_of, read_state
from tests.installation import running
from tests.nouns import a_credential, a_route, a_rule, an_owner, an_upstream
from tests.services.bench import audit_rows, run_sql
from tests.web.harbour import proxy_settings

ALLOW, DENY = Effect.ALLOW, Effect.DENY
LATER = datetime(2099, 1, 31, tzinfo=UTC)
TO_PROXY = "https://proxy.example"
ACME = TenantPart(
    title="Team A",
    hosts=("go.acme.example",),
    limits=TenantLimits(cold=4),
    rules=(a_rule(ALLOW, "example.com"), a_rule(DENY, "example.com/x", "<v1.2.0", "CVE-1", LATER)),
    routes=(a_route("*", TO_PROXY), a_route("corp.example", TO_PROXY, private=True)),
)
ZETA = TenantPart(default=ALLOW, anonymous_read=True)
FULL = Document(
    tenants={"acme": ACME, "zeta": ZETA},
    ownership=(an_owner("corp.example", "acme", "zeta"),),
    rules=(a_rule(DENY, "evil.example", reason="malware"),),
)
NOTHING = Document(ownership=(), rules=())
ONLY_ZETA = Document(tenants={"zeta": ZETA})


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def started(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    async with running(proxy_settings(tmp_path_factory.mktemp("document"))) as services:
        yield services


@pytest.fixture
async def services(started: Services) -> AsyncIterator[Services]:
    """The same services for all; each test begins with nothing."""
    yield started
    await apply(started, NOTHING, prune=True)


def told(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.action.value, change.object) for change in changes]


async def state(services: Services) -> dict[str, Facts]:
    present = await services.shared.db.read(read_state)
    return {name: facts_of(noun) for name, noun in present.named()}


async def traces(services: Services) -> tuple[int, int]:
    """Return how many audit rows there are, and the generation."""
    return len(await audit_rows(services)), await services.shared.watch.poll()


async def apply(services: Services, document: Document, **more: bool) -> list[Change]:
    return await services.tenants.documents.apply(document, OPERATOR, **more)


async def test_an_empty_place_becomes_what_the_document_says(services: Services) -> None:
    changes = await apply(services, FULL)
    assert [(change.object, change.after) for change in changes] == list(
        (await state(services)).items()
    )
    assert {change.action for change in changes} == {Action.CREATE}
    actions = [row.action for row in await audit_rows(services)][-8:]
    assert actions == [
        "tenant.create",
        "tenant.create",
        "ownership.put",
        "rule.create",
        "rule.create",
        "rule.create",
        "route.create",
        "route.create",
    ]
    acme = await services.tenants.tenants.get("acme", OPERATOR)
    assert (acme.title, acme.hosts, acme.limits.cold) == ("Team A", ("go.acme.example",), 4)


async def test_a_tenant_of_a_document_has_the_routes_that_it_says_and_no_catch_all(
    services: Services,
) -> None:
    await apply(services, ONLY_ZETA)
    assert await services.tenants.routes.page("zeta", OPERATOR) == []


async def test_applied_again_it_changes_nothing_and_leaves_no_trace(services: Services) -> None:
    await apply(services, FULL)
    before = await traces(services)
    assert await apply(services, FULL) == []
    assert await apply(services, FULL, prune=True) == []
    assert await traces(services) == before


async def test_a_dry_run_tells_the_same_and_changes_nothing(services: Services) -> None:
    before = await traces(services), await state(services)
    dry = await apply(services, FULL, dry_run=True)
    assert (await traces(services), await state(services)) == before
    assert await apply(services, FULL) == dry


def changed(part: TenantPart, **changes: object) -> TenantPart:
    return part.model_copy(update=changes)


def said_again(number: int, **changes: object) -> Rule:
    """Return a rule of acme with other words."""
    return Rule.model_validate({**ACME.rules[number].model_dump(), **changes})


def with_acme(**changes: object) -> Document:
    return Document(tenants={"acme": changed(ACME, **changes)})


CHANGES: list[tuple[str, Document, list[tuple[str, str]]]] = [
    (
        "the title",
        with_acme(title="B"),
        [("update", "tenant acme")],
    ),
    (
        "what is left out gets its default",
        Document(tenants={"acme": TenantPart(rules=ACME.rules, routes=ACME.routes)}),
        [("update", "tenant acme")],
    ),
    (
        "a rule's reason and end",
        with_acme(rules=(ACME.rules[0], said_again(1, reason="B", expires_at=None))),
        [("update", "rule acme: deny example.com/x <v1.2.0")],
    ),
    (
        "a rule's words",
        with_acme(rules=(ACME.rules[0], said_again(1, versions="<v1.3.0"))),
        [
            ("remove", "rule acme: deny example.com/x <v1.2.0"),
            ("create", "rule acme: deny example.com/x <v1.3.0"),
        ],
    ),
    (
        "no rules",
        with_acme(rules=()),
        [
            ("remove", "rule acme: allow example.com"),
            ("remove", "rule acme: deny example.com/x <v1.2.0"),
        ],
    ),
    ("the order of rules is no change", with_acme(rules=ACME.rules[::-1]), []),
    ("the order of routes is no change", with_acme(routes=ACME.routes[::-1]), []),
    (
        "the spelling of versions is no change",
        with_acme(rules=(ACME.rules[0], said_again(1, versions=" <v1.2.0 "))),
        [],
    ),
    (
        "a slash behind an upstream is no change",
        with_acme(routes=(a_route("*", "https://PROXY.example/"), ACME.routes[1])),
        [],
    ),
    (
        "an upstream",
        with_acme(
            routes=(
                a_route("*", an_upstream("https://b.example", on_absent=OnAbsent.STOP)),
                ACME.routes[1],
            )
        ),
        [("update", "route acme: *")],
    ),
    (
        "a route's note",
        with_acme(routes=(a_route("*", TO_PROXY, note="moves in May"), ACME.routes[1])),
        [("update", "route acme: *")],
    ),
    (
        "a route less",
        with_acme(routes=ACME.routes[:1]),
        [("remove", "route acme: corp.example")],
    ),
    ("nothing that it does not name", Document(), []),
    (
        "no owned prefix",
        Document(ownership=()),
        [("remove", "ownership corp.example")],
    ),
    ("no platform rule", Document(rules=()), [("remove", "rule platform: deny evil.example")]),
    (
        "an owner",
        Document(ownership=(an_owner("corp.example", "zeta"),)),
        [("update", "ownership corp.example")],
    ),
]


@pytest.mark.parametrize(
    ("document", "expected"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
async def test_exactly_what_differs_is_changed_and_audited(
    services: Services, document: Document, expected: list[tuple[str, str]]
) -> None:
    await apply(services, FULL)
    rows, generation = await traces(services)
    assert told(await apply(services, document)) == expected
    after = await traces(services)
    assert after == (rows + len(expected), generation + bool(expected))
    assert await apply(services, document) == []


async def test_a_change_says_what_was_and_what_is(services: Services) -> None:
    await apply(services, FULL)
    [change] = await apply(services, with_acme(title="B"))
    assert change.before is not None
    assert change.after is not None
    assert {k: (v, change.after[k]) for k, v in change.before.items() if v != change.after[k]} == {
        "title": ("Team A", "B")
    }


async def test_only_prune_removes_tenants_and_all_that_is_theirs(services: Services) -> None:
    await apply(services, FULL)
    assert await apply(services, ONLY_ZETA) == []
    assert told(await apply(services, ONLY_ZETA, prune=True)) == [
        ("remove", "tenant acme"),
        ("remove", "ownership corp.example"),
        ("remove", "rule acme: allow example.com"),
        ("remove", "rule acme: deny example.com/x <v1.2.0"),
        ("remove", "route acme: *"),
        ("remove", "route acme: corp.example"),
    ]


async def test_prune_frees_a_host_for_another_tenant(services: Services) -> None:
    await apply(services, FULL)
    taker = Document(tenants={"taker": TenantPart(hosts=ACME.hosts)})
    with pytest.raises(ConflictError, match=r"go\.acme\.example leads to another tenant"):
        await apply(services, taker)
    await apply(services, taker, prune=True)


async def test_a_host_moves_from_one_tenant_to_another_in_one_document(services: Services) -> None:
    await apply(services, FULL)
    moved = {"zeta": changed(ZETA, hosts=ACME.hosts), "acme": changed(ACME, hosts=())}
    for document in (Document(tenants=moved), Document(tenants={"acme": ACME, "zeta": ZETA})):
        assert told(await apply(services, document)) == [
            ("update", "tenant acme"),
            ("update", "tenant zeta"),
        ]


BAD: list[tuple[Document, type[Exception], str]] = [
    (
        with_acme(rules=(ACME.rules[0], ACME.rules[0])),
        ConflictError,
        r"tenants\.acme\.rules\[1\]: the rule allow example\.com comes twice",
    ),
    (
        with_acme(routes=(ACME.routes[0], ACME.routes[0])),
        ConflictError,
        r"tenants\.acme\.routes\[1\]: the pattern '\*' comes twice",
    ),
    (
        with_acme().model_copy(update={"ownership": (an_owner("x.y", "acme"),) * 2}),
        ConflictError,
        r"ownership\[1\]: the prefix x\.y comes twice",
    ),
    (
        with_acme().model_copy(
            update={"ownership": (an_owner("x.y/a", "acme"), an_owner("x.y/A", "acme"))}
        ),
        ConflictError,
        r"ownership\[1\]: x\.y/a is owned already, and ownership ignores case",
    ),
    (
        with_acme().model_copy(update={"ownership": (an_owner("x.y", "nobody"),)}),
        UnknownError,
        r"ownership\[0\]: there is no tenant 'nobody'",
    ),
    (
        with_acme(rules=(a_rule(DENY, "x.y", expires_at=datetime(2020, 1, 1, tzinfo=UTC)),)),
        BadInputError,
        r"tenants\.acme\.rules\[0\]: expires_at is in the past",
    ),
    (
        with_acme(routes=(a_route("*", an_upstream("https://x.y", credential="absent")),)),
        UnknownError,
        r"tenants\.acme\.routes\[0\]: tenant acme has no credential 'absent'",
    ),
    (
        with_acme().model_copy(update={"rules": (a_rule(ALLOW, "x.y"),)}),
        BadInputError,
        r"rules\[0\]: a platform rule can only deny",
    ),
]


@pytest.mark.parametrize(("document", "error", "message"), BAD, ids=[b[2][:40] for b in BAD])
async def test_a_part_that_cannot_be_leaves_all_as_it_was(
    services: Services, document: Document, error: type[Exception], message: str
) -> None:
    with_zeta = document.model_copy(update={"tenants": {"zeta": ZETA, **document.tenants}})
    before = await traces(services), await state(services)
    with pytest.raises(error, match=message):
        await apply(services, with_zeta)
    assert (await traces(services), await state(services)) == before


async def test_a_rule_that_has_expired_since_does_not_spoil_the_document(
    services: Services,
) -> None:
    await apply(services, FULL)
    ended = services.shared.now() - timedelta(days=1)
    await run_sql(services, f"UPDATE rules SET expires_at = '{ended:%Y-%m-%d %H:%M:%S.%f}'")
    rules = tuple(said_again(number, expires_at=ended) for number in (0, 1))
    before = await traces(services)
    assert await apply(services, with_acme(rules=rules)) == []
    assert await traces(services) == before


async def test_credentials_are_referred_to_by_name_and_stay(services: Services) -> None:
    await apply(services, FULL)
    await services.tenants.credentials.put(
        "acme", "git", a_credential("bearer", "s3cret"), OPERATOR
    )
    route = a_route("*", an_upstream("https://proxy.example", credential="git"))
    [change] = await apply(services, with_acme(routes=(route, ACME.routes[1])))
    assert "s3cret" not in str(change)
    assert await apply(services, with_acme(routes=(route, ACME.routes[1]))) == []
    await apply(services, FULL)
    assert [c.name for c in await services.tenants.credentials.page("acme", OPERATOR)] == ["git"]


async def test_tokens_are_left_alone(services: Services) -> None:
    await apply(services, FULL)
    _, secret = await services.tenants.tokens.create(
        "ci", tenant="acme", scopes=frozenset({Scope.READ})
    )
    await apply(
        services, Document(tenants={"acme": TenantPart(rules=ACME.rules, routes=ACME.routes)})
    )
    assert (await services.tenants.tokens.authenticate(secret)).tenant == "acme"


async def test_only_an_admin_of_the_platform_applies(services: Services) -> None:
    await apply(services, FULL)
    for who in (
        Principal("token:1", frozenset({Scope.ADMIN}), "acme"),
        Principal("token:2", frozenset({Scope.READ})),
    ):
        with pytest.raises(DeniedError):
            await services.tenants.documents.apply(with_acme(), who, dry_run=True)


async def test_the_facts_of_a_route_have_all_that_can_differ(
    services: Services,
) -> None:
    await apply(services, FULL)
    assert (await state(services))["route acme: *"]["upstreams"] == [
        {
            "url": "https://proxy.example",
            "credential": None,
            "on_absent": "next",
            "redirect_to": [],
            "host_keys": "",
            "vanity": False,
            "connect_s": 5.0,
            "metadata_s": 60.0,
            "zip_s": 900.0,
            "ca_sha256": "",
        }
    ]


SECRET = "s3cret-of-nexus"
NEXUS = a_credential("bearer", SECRET)
TO_NEXUS = a_route(
    "corp.example", an_upstream("https://nexus.example", credential="nexus"), private=True
)


def with_nexus(credential: SecretCredential = NEXUS, **more: object) -> Document:
    part = TenantPart(routes=(TO_NEXUS,), credentials={"nexus": credential}).model_copy(update=more)
    return Document(tenants={"acme": part})


async def secrets(services: Services) -> dict[str, tuple[int, int, str]]:
    """Return id, revision and secret of acme's credentials, by name."""
    box = services.shared.box
    return {
        c.name: (c.id, c.revision, box.open(c.sealed, place_of("acme", c.name)))
        for c in await services.tenants.credentials.page("acme", OPERATOR)
    }


async def test_a_new_tenant_its_credential_and_the_route_that_names_it_are_one_step(
    services: Services,
) -> None:
    dry = await apply(services, with_nexus(), dry_run=True)
    assert told(dry) == [
        ("create", "tenant acme"),
        ("create", "credential acme: nexus"),
        ("create", "route acme: corp.example"),
    ]
    assert dry[1].after == {"kind": "bearer", "username": "", "secret": "recorded"}
    assert await state(services) == {}
    assert await apply(services, with_nexus()) == dry
    credential_id, revision, secret = (await secrets(services))["nexus"]
    assert (revision, secret) == (1, SECRET)
    [route] = await services.tenants.routes.page("acme", OPERATOR)
    assert route.upstreams[0].credential_id == credential_id
    rows = [r for r in await audit_rows(services) if r.action == "credential.put"]
    assert (rows[-1].object, rows[-1].detail) == ("credential:acme/nexus", "bearer")
    assert SECRET not in repr(dry) + repr(await audit_rows(services)) + repr(with_nexus())


async def test_a_credential_that_is_so_already_is_not_written(services: Services) -> None:
    await apply(services, with_nexus())
    before = await traces(services)
    assert await apply(services, with_nexus()) == []
    assert await traces(services) == before


async def test_a_changed_secret_keeps_the_credential_and_its_content(services: Services) -> None:
    await apply(services, with_nexus())
    [before] = await services.tenants.routes.page("acme", OPERATOR)
    first = (await secrets(services))["nexus"]
    [change] = await apply(services, with_nexus(a_credential("bearer", "other")))
    assert told([change]) == [("update", "credential acme: nexus")]
    assert change.before is not None
    assert change.after is not None
    assert (change.before["secret"], change.after["secret"]) == ("recorded", "changed")
    assert (await secrets(services))["nexus"] == (first[0], 2, "other")
    [after] = await services.tenants.routes.page("acme", OPERATOR)
    assert after.upstreams[0].origin_id == before.upstreams[0].origin_id


async def test_a_changed_username_does_not_say_that_the_secret_changed(services: Services) -> None:
    await apply(services, with_nexus(a_credential("basic", SECRET, "ann")))
    [change] = await apply(services, with_nexus(a_credential("basic", SECRET, "ben")))
    assert change.before == {"kind": "basic", "username": "ann", "secret": "recorded"}
    assert change.after == {"kind": "basic", "username": "ben", "secret": "recorded"}
    assert (await secrets(services))["nexus"][1:] == (2, SECRET)


async def test_credentials_that_the_document_does_not_name_are_left_alone(
    services: Services,
) -> None:
    await apply(services, with_nexus())
    await services.tenants.credentials.put("acme", "other", NEXUS, OPERATOR)
    await apply(services, with_nexus(credentials={}))
    assert set(await secrets(services)) == {"nexus", "other"}
    assert ("remove", "credential acme: other") in told(await apply(services, NOTHING, prune=True))


async def test_a_secret_that_the_key_opens_no_more_is_another(services: Services) -> None:
    await apply(services, with_nexus())
    await run_sql(services, "UPDATE credentials SET secret = x'00'")
    assert told(await apply(services, with_nexus())) == [("update", "credential acme: nexus")]
    assert (await secrets(services))["nexus"][1:] == (2, SECRET)


async def test_a_credential_that_nobody_has_is_refused_by_a_dry_run_too(
    services: Services,
) -> None:
    for dry_run in (True, False):
        with pytest.raises(UnknownError, match=r"tenants\.acme\.routes\[0\]: .* no credential"):
            await apply(services, with_nexus(credentials={}), dry_run=dry_run)
    elsewhere = Document(tenants={"zeta": TenantPart(credentials={"nexus": NEXUS})})
    both = Document(tenants={**elsewhere.tenants, "acme": TenantPart(routes=(TO_NEXUS,))})
    with pytest.raises(UnknownError, match="no credential"):
        await apply(services, both)


async def test_a_malformed_name_of_a_credential_is_refused_with_its_place(
    services: Services,
) -> None:
    with pytest.raises(BadInputError, match=r"^tenants\.acme\.credentials\.A b: a credential's"):
        await apply(services, with_nexus(credentials={"A b": NEXUS}))
