"""Installation tokens of a GitHub App: asked for once, renewed before their end, kept secret."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from app.core.principal import OPERATOR
from app.services.clock import utc_now
from app.upstream.githubapp import GithubApp, GithubTokens, signed_request
from tests.fakes.git import GitUser, say
from tests.nouns import a_credential
from tests.services.bench import Stopwatch
from tests.services.modules.gits.lane import GitLane
from tests.web.harbour import settled

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.TraditionalOpenSSL,
    serialization.NoEncryption(),
).decode()
API = "/api/v3/app/installations/678/access_tokens"


def tokens(
    lane: GitLane,
    status: int = 201,
    life: timedelta = timedelta(hours=1),
    retry_after: str = "",
) -> list[str]:
    """Have the server give tokens; return the list that gets each request's authorization."""
    asked: list[str] = []

    def give(request: BaseHTTPRequestHandler) -> bool:
        asked.append(request.headers["Authorization"])
        ends = (datetime.now(UTC) + life).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = json.dumps({"token": "ghs_secret", "expires_at": ends}).encode()
        say(request, status, body, {"Retry-After": retry_after} if retry_after else {})
        return True

    lane.fake.answers[API] = give
    lane.fake.users["x-access-token"] = GitUser("ghs_secret")
    return asked


async def credential(lane: GitLane) -> None:
    await set_app(lane)
    await lane.route(credential_name="git")


async def set_app(lane: GitLane) -> None:
    app = a_credential("github_app", PEM, "12345/678")
    await lane.site.services.tenants.credentials.put("acme", "git", app, OPERATOR)
    await settled(lane.site.services)


async def test_a_token_is_asked_for_once_and_signed_by_the_apps_key(lane: GitLane) -> None:
    asked = tokens(lane)
    await credential(lane)
    assert (await lane.ask("team/x/@v/list")).body == b"v1.0.0\nv1.1.0\n"
    assert (await lane.ask("team/x/@v/v1.0.0.zip")).status == 200
    [authorization] = asked
    signed = authorization.removeprefix("Bearer ")
    text, _, signature = signed.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    KEY.public_key().verify(raw, text.encode(), padding.PKCS1v15(), hashes.SHA256())
    claims = json.loads(base64.urlsafe_b64decode(text.partition(".")[2] + "=="))
    assert claims["iss"] == "12345"
    assert claims["exp"] - claims["iat"] <= 600


async def test_a_token_that_ends_soon_is_renewed(lane: GitLane) -> None:
    asked = tokens(lane, life=timedelta(minutes=4))
    await credential(lane)
    assert (await lane.ask("team/x/@v/list")).status == 200
    assert (await lane.ask("team/x/@v/v1.0.0.zip")).status == 200
    assert len(asked) == 2


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_F87_an_app_that_gets_no_token_is_our_trouble_and_no_absence(
    lane: GitLane, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    asked = tokens(lane, status=status)
    await credential(lane)
    got = await lane.ask("team/x/@v/list")
    assert got.status == 502
    assert (
        f"upstream answered {status}, it does not let this server in: it refuses the GitHub App "
        "of the route; tell an admin" in got.text
    )
    assert len(asked) == 1  # no other path of the module would be let in
    printed = "".join(capfd.readouterr())
    assert f"answered {status} to the request for a token of app 12345, installation 678" in printed
    assert "PRIVATE KEY" not in printed
    assert PEM.splitlines()[1] not in printed


async def test_githubs_own_trouble_is_not_taken_for_a_refusal(lane: GitLane) -> None:
    tokens(lane, status=500)
    await credential(lane)
    got = await lane.ask("team/x/@v/list")
    assert got.status == 503
    assert "upstream answered 500; try again in 60 s" in got.text


async def test_a_refusal_is_not_asked_for_by_every_request(lane: GitLane) -> None:
    asked = tokens(lane, status=401)
    await credential(lane)
    answers = [await lane.ask(f"team/{name}/@v/list") for name in ("x", "y", "z")]
    assert {(got.status, "it refuses the GitHub App" in got.text) for got in answers} == {
        (502, True)
    }
    assert len(asked) == 1


async def test_a_credential_that_was_set_again_is_used_at_once(lane: GitLane) -> None:
    tokens(lane, status=401)
    await credential(lane)
    assert (await lane.ask("team/x/@v/list")).status == 502
    asked = tokens(lane)
    assert (await lane.ask("team/x/@v/list")).status == 502
    assert asked == []
    await set_app(lane)
    assert (await lane.ask("team/x/@v/list")).status == 200
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "retry_after", "wait_s"),
    [(401, "", 30), (404, "", 30), (500, "", 60), (403, "90", 90), (429, "99999", 300)],
)
async def test_after_a_refusal_github_is_asked_once_in_a_while(
    lane: GitLane, status: int, retry_after: str, wait_s: int
) -> None:
    asked = tokens(lane, status=status, retry_after=retry_after)
    clock = Stopwatch()
    github = GithubTokens(utc_now, clock)
    app = GithubApp("1.1", "12345", "678", PEM)
    origin, client = f"http://127.0.0.1:{lane.fake.port}", lane.site.services.shared.client
    for seconds, count in ((0.0, 1), (wait_s - 0.1, 1), (wait_s, 2), (2 * wait_s - 0.1, 2)):
        clock.seconds = 1000.0 + seconds
        herd = [github.credential(app, origin, client) for _ in range(3)]
        errors = await asyncio.gather(*herd, return_exceptions=True)
        assert {getattr(error, "status", None) for error in errors} == {status}
        assert len(asked) == count
    clock.seconds += wait_s
    asked = tokens(lane)
    await github.credential(app, origin, client)
    await github.credential(app, origin, client)
    assert len(asked) == 1


def test_an_apps_secret_is_in_no_repr() -> None:
    app = GithubApp("1.1", "12345", "678", PEM)
    assert "KEY" not in repr(app)
    assert signed_request(app, datetime.now(UTC)).count(".") == 2
