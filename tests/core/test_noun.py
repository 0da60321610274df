"""Models of the control plane: one class for what is written, recorded and shown."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from app.core.acl import RecordedOwnership, RecordedRule, Rule
from app.core.credential import RecordedCredential, SecretCredential
from app.core.errors import BadInputError
from app.core.noun import CONTENT, Noun, Recorded, checked
from app.core.routing import LogPolicy, RecordedRoute, RecordedUpstream, Route
from app.core.tenant import RecordedTenant, Tenant
from tests.nouns import AT, a_route, a_rule, recorded_route, recorded_rule, recorded_upstream

RULE: dict[str, Any] = {"effect": "deny", "pattern": "a.b"}
APP: dict[str, Any] = {"kind": "github_app", "secret": "s"}
PROXY = "https://proxy.example"

CONTENTS: list[tuple[type[Noun], dict[str, Any], str]] = [
    (Rule, {**RULE, "pattern": "a.b!"}, "exclamation mark"),
    (Rule, {**RULE, "versions": "v1, v2"}, "no version fulfils"),
    (Rule, {**RULE, "reason": "two\nlines"}, "the reason has a control character"),
    (Rule, {**RULE, "expires_at": "2099-01-01T00:00:00"}, "needs a zone"),
    (Tenant, {"name": "Acme"}, "can't be a tenant's name"),
    (Tenant, {"name": "acme", "hosts": ["a.b", "a.b"]}, "a host comes twice"),
    (Tenant, {"name": "acme", "hosts": ["a.b:80"]}, "without a port"),
    (
        Route,
        {"pattern": "*", "upstreams": [PROXY], "private": True, "log": "defer"},
        "log must be off",
    ),
    (SecretCredential, {"kind": "bearer", "secret": "s", "username": "u"}, "has no username"),
    (SecretCredential, {"kind": "bearer", "secret": "é"}, "outside visible ASCII"),
    (SecretCredential, {"kind": "basic", "secret": "s"}, "needs a username"),
    (SecretCredential, {"kind": "basic", "secret": "s", "username": "u:s"}, "has a colon"),
    (SecretCredential, {**APP, "username": ""}, "'' has neither id"),
    (SecretCredential, {**APP, "username": "/"}, "'/' has neither id"),
    (SecretCredential, {**APP, "username": "12345"}, "'12345' has no installation id"),
    (SecretCredential, {**APP, "username": "12345/"}, "'12345/' has no installation id"),
    (SecretCredential, {**APP, "username": "/678"}, "'/678' has no app id"),
    (SecretCredential, {**APP, "username": "ghs_Zo2/678"}, "what was given is not two numbers"),
    (SecretCredential, {**APP, "username": "1/2", "secret": ""}, "the secret is empty"),
]


@pytest.mark.parametrize(("kind", "values", "reason"), CONTENTS, ids=[c[2] for c in CONTENTS])
def test_wrong_content_is_told_in_one_line(
    kind: type[Noun], values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(values)
    assert [e["type"] for e in caught.value.errors()] == [CONTENT]
    with pytest.raises(BadInputError, match=reason):
        checked(kind, values)


@pytest.mark.parametrize(
    "more", [{"effect": "perhaps"}, {"pattern": "a" * 257}, {"pattern": 3}, {"colour": "red"}]
)
def test_a_wrong_shape_is_no_wrong_content(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Rule.model_validate({**RULE, **more})
    assert CONTENT not in [e["type"] for e in caught.value.errors()]


def test_a_list_of_words_is_a_set_but_its_length_counts_as_it_was_written() -> None:
    upstream = {"url": PROXY, "redirect_to": ["b.example", "a.example", "b.example"]}
    [written] = a_route("*", upstream).upstreams  # type: ignore[arg-type]
    assert written.redirect_to == {"a.example", "b.example"}
    assert written.model_dump()["redirect_to"] == ["a.example", "b.example"]
    with pytest.raises(ValidationError):
        a_route("*", {**upstream, "redirect_to": ["a.example"] * 21})  # type: ignore[arg-type]


def test_a_text_is_parsed_and_written_as_the_same_text() -> None:
    rule = a_rule(*RULE.values(), versions=" >=v1.0.0  <v2.0.0-0 ")
    assert rule.versions is not None
    assert rule.versions.contains("v1.2.3")
    assert rule.model_dump(mode="json")["versions"] == ">=v1.0.0 <v2.0.0-0"
    assert a_rule(*RULE.values()).model_dump(mode="json")["versions"] == ""


def test_the_log_of_a_route_follows_from_its_privacy_unless_it_is_written() -> None:
    assert a_route("*", PROXY).log is LogPolicy.DEFER
    assert a_route("*", PROXY, private=True).log is LogPolicy.OFF
    assert a_route("*", PROXY, log="require").log is LogPolicy.REQUIRE


def test_a_recorded_noun_says_what_was_written_whatever_its_id() -> None:
    upstream = recorded_upstream(7, PROXY)
    recorded = recorded_route(3, "*", upstream, revision=9)
    assert recorded.says(a_route("*", PROXY))
    assert not recorded.says(a_route("*", PROXY, off=True))
    assert recorded.says(recorded_route(4, "*", recorded_upstream(8, PROXY)))


def test_the_next_revision_keeps_id_and_time() -> None:
    before = recorded_rule(3, *RULE.values(), revision=4)
    later = datetime(2027, 1, 1, tzinfo=UTC)
    first = RecordedRule.first(a_rule("allow", "c.d"), later, tenant="acme")
    assert (first.id, first.revision, first.created_at) == (0, 1, later)
    after = first.succeeding(before)
    assert (after.id, after.revision, after.created_at) == (3, 5, AT)
    assert str(after) == "allow c.d"
    assert first.succeeding(None) is first


HIDDEN: list[tuple[type[Noun], set[str]]] = [
    (RecordedTenant, {"id"}),
    (RecordedOwnership, {"id"}),
    (RecordedUpstream, {"origin_id", "credential_id", "is_platforms"}),
    (RecordedCredential, {"id", "tenant", "sealed", "created_at"}),
    (RecordedRoute, set()),
    (RecordedRule, set()),
]


@pytest.mark.parametrize(("kind", "hidden"), HIDDEN, ids=[h[0].__name__ for h in HIDDEN])
def test_an_answer_has_every_field_but_those_that_are_nobodys(
    kind: type[Noun], hidden: set[str]
) -> None:
    schema = kind.model_json_schema(mode="serialization")
    shown = set(kind.model_fields) - hidden
    assert set(schema["properties"]) == set(schema["required"]) == shown


def test_a_secret_is_in_no_text_of_a_credential() -> None:
    credential = SecretCredential.model_validate({"kind": "bearer", "secret": "s3cret-canary"})
    assert "canary" not in repr(credential)
    assert "canary" not in credential.model_dump_json()
    recorded = RecordedCredential(
        id=1,
        revision=1,
        created_at=AT,
        changed_at=AT,
        tenant="acme",
        name="git",
        kind="bearer",
        sealed=b"canary",
    )
    assert "canary" not in repr(recorded)
    assert "canary" not in recorded.model_dump_json()


def test_what_recording_adds_is_the_same_for_all() -> None:
    assert set(Recorded.model_fields) == {"id", "revision", "created_at"}
