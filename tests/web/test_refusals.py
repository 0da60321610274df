"""What is not a request of a client: names, paths, methods and sizes that get a short refusal."""

import json
import re

import pytest

from tests.web.conftest import (
    ON_DEMAND,
    PENDING,
    QUARANTINED,
    REFUSED_KIND,
    UNVERIFIABLE,
    VERIFIED,
    Log,
    Mirror,
    Put,
    StartSite,
)
from tests.web.wire import Got, request

TEXT = "text/plain; charset=utf-8"


def is_one_line(got: Got) -> bool:
    """Whether it is what someone at a terminal can read: no page, no JSON, no traceback."""
    assert got.header("content-type") == TEXT
    assert got.header("cache-control") == "no-store"
    assert got.header("content-length") == str(len(got.body))
    assert "Traceback" not in got.text
    assert not got.text.startswith(("{", "["))
    return bool(re.fullmatch(r"[^\x00-\x1f\x7f]+\n", got.text))


def is_problem(got: Got) -> bool:
    """Whether it is what a client of the admin API can read."""
    assert got.header("cache-control") == "no-store"
    assert "Traceback" not in got.text
    return got.header("content-type") == "application/problem+json"


OUTSIDE_THE_GRAMMAR = [
    "nothing",
    "go",
    "go1",
    "go1.27.1",
    "go1.27.1.linux-amd64",
    "go1.27.1.linux-amd64.tar",
    "go1.27.1.linux-amd64.tar.xz",
    "go1.27.1.linux-amd64.TAR.GZ",
    "Go1.27.1.linux-amd64.tar.gz",
    "1.27.1.linux-amd64.tar.gz",
    "go1..27.linux-amd64.tar.gz",
    "go1.27.1_linux-amd64.tar.gz",
    "go1.27.1.linux-amd64.tar.gz.sha512",
    "go1.27.1.linux-amd64.tar.gz.sha256.asc",
    "go1.27.1.linux-amd64.tar.gz.asc.sha256",
    "SHA256SUMS.asc",
    "SHA256SUMS.sha256",
    "sha256sums",
    "index.json",
    "favicon.ico",
    "channels",
    "..",
    ".",
    "...",
    "-rf",
    "go1." + "9" * 200 + ".src.tar.gz",
    ".sha256",
    ".asc",
]


@pytest.mark.parametrize("root", ["/dl/", "/go/"])
@pytest.mark.parametrize("name", OUTSIDE_THE_GRAMMAR, ids=range(len(OUTSIDE_THE_GRAMMAR)))
async def test_a_name_outside_the_grammar_is_404_and_says_where_to_look(
    mirror: Mirror, root: str, name: str
) -> None:
    got = await mirror.site.ask(root + name)
    # The listing is found below both roots; messages name one.
    assert got.status in ((400, 404) if name == ".." else (404,))
    assert is_one_line(got)
    assert "/dl/" in got.text


@pytest.mark.parametrize("extra", ["", ".sha256", ".sha256sum", ".asc"])
async def test_an_unknown_file_is_404_and_says_where_to_look(mirror: Mirror, extra: str) -> None:
    got = await mirror.site.ask(f"/dl/go1.99.77.linux-amd64.tar.gz{extra}")
    assert got.status == 404
    assert is_one_line(got)
    assert "go1.99.77.linux-amd64.tar.gz" in got.text
    assert "see /dl/" in got.text


@pytest.mark.parametrize("extra", ["", ".sha256", ".sha256sum", ".asc"])
async def test_a_quarantined_file_is_502_with_the_reason(mirror: Mirror, extra: str) -> None:
    got = await mirror.site.ask(f"/dl/{QUARANTINED}{extra}")
    assert got.status == 502
    assert is_one_line(got)
    assert QUARANTINED in got.text
    assert "SHA-256" in got.text


@pytest.mark.parametrize("extra", ["", ".sha256", ".sha256sum", ".asc"])
async def test_a_pending_file_is_503_with_retry_after(mirror: Mirror, extra: str) -> None:
    got = await mirror.site.ask(f"/dl/{PENDING}{extra}")
    assert got.status == 503
    assert is_one_line(got)
    assert "signature" in got.text
    assert int(got.header("retry-after") or "") > 0


@pytest.mark.parametrize("extra", ["", ".sha256", ".sha256sum", ".asc"])
@pytest.mark.parametrize(
    ("name", "why"), [(REFUSED_KIND, "SHA256_ONLY"), (UNVERIFIABLE, "can't be verified")]
)
async def test_a_file_that_policy_refuses_is_403_with_the_reason(
    mirror: Mirror, name: str, why: str, extra: str
) -> None:
    before = mirror.fake.hits[f"/go/{name}"]
    got = await mirror.site.ask(f"/dl/{name}{extra}")
    assert got.status == 403
    assert is_one_line(got)
    assert why in got.text
    assert mirror.fake.hits[f"/go/{name}"] == before


async def test_without_on_demand_a_file_that_is_not_mirrored_is_403_and_says_what_to_do(
    start_site: StartSite, put: Put
) -> None:
    name, _ = put()
    site = await start_site(releases={"select": {"on_demand": False}})
    got = await site.ask(f"/dl/{name}")
    assert got.status == 403
    assert is_one_line(got)
    assert "MOORAGE_RELEASES__SELECT__PINS" in got.text


# F4 to F7 as they apply to file names: nothing here may reach the store or an upstream.
MALFORMED = [
    ("F4", b"/dl/../etc/passwd"),
    ("F4", b"/dl/..%2f..%2fetc/passwd"),
    ("F4", b"/dl/%2e%2e/" + VERIFIED.encode()),
    ("F4", b"/dl/a/../" + VERIFIED.encode()),
    ("F4", b"/dl/./" + VERIFIED.encode()),
    ("F5", b"/dl/" + VERIFIED.encode().replace(b".", b"%252e")),
    ("F5", b"/dl/" + VERIFIED.encode() + b"%00"),
    ("F5", b"/dl/%2f" + VERIFIED.encode()),
    ("F5", b"/dl%2f" + VERIFIED.encode()),
    ("F5", b"/dl/%5c" + VERIFIED.encode()),
    ("F5", b"/dl/%zz"),
    ("F5", b"/dl/%"),
    ("F5", b"/dl/%25" + VERIFIED.encode()),
    ("F6", b"//dl/" + VERIFIED.encode()),
    ("F6", b"/dl/" + VERIFIED.encode() + b"/"),
    ("F6", b"/dl/" + VERIFIED.encode() + b"//"),
    ("F6", b"/dl/sub/" + VERIFIED.encode()),
    ("F7", b"/dl/" + VERIFIED.encode() + b"\x00"),
    ("F7", b"/dl/\x01" + VERIFIED.encode()),
    ("F7", b"/dl/" + VERIFIED.encode() + b"\x7f"),
    ("F7", b"/dl/" + VERIFIED.encode() + b"\xff"),
    ("F7", b"/dl/\xc0\xae\xc0\xae/" + VERIFIED.encode()),
    ("F7", "/dl/．．/".encode() + VERIFIED.encode()),  # noqa: RUF001 (full-width dots)
    ("F7", b"/dl/\\" + VERIFIED.encode()),
    ("F7", b"/dl/" + VERIFIED.encode() + b"\t"),
    ("F7", b"/dl/" + VERIFIED.encode() + b";x"),
    ("F7", b"/dl/" + VERIFIED.encode() + b"'\"<>"),
]


@pytest.mark.parametrize(
    "target",
    [target for _, target in MALFORMED],
    ids=[f"{f}-{i}" for i, (f, _) in enumerate(MALFORMED)],
)
async def test_F4_F5_F6_F7_a_path_that_is_no_name_is_refused_without_touching_upstream(
    mirror: Mirror, target: bytes
) -> None:
    before = mirror.fake.hits
    for path in (target, target.replace(b"/dl", b"/go")):
        raw = await mirror.site.raw(request(path, headers={"Connection": "close"}))
        assert re.match(rb"HTTP/1\.1 40[04] ", raw)
        assert b"Traceback" not in raw
    assert mirror.fake.hits == before


REFUSED_METHODS = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"]


@pytest.mark.parametrize(
    "target", ["/dl/", f"/dl/{VERIFIED}", f"/go/{VERIFIED}.sha256", "/dl", "/dl/x"]
)
@pytest.mark.parametrize("method", REFUSED_METHODS)
async def test_F21_other_methods_are_405_with_allow(
    mirror: Mirror, method: str, target: str
) -> None:
    if method == "get":  # no method of HTTP: refused before the application sees it
        assert b" 400 " in (await mirror.site.raw(request(target, method)))[:20]
        return
    got = await mirror.site.ask(target, method)
    assert got.status == 405
    assert got.header("allow") == "GET, HEAD"
    assert is_one_line(got)


async def test_F21_connect_is_400(mirror: Mirror) -> None:
    raw = await mirror.site.raw(request("mirror.example:443", "CONNECT", {"Connection": "close"}))
    assert raw.startswith(b"HTTP/1.1 400 ")


async def test_an_uploaded_body_changes_nothing(mirror: Mirror) -> None:
    for method, status in (("POST", 405), ("PUT", 405), ("GET", 200)):
        got = await mirror.site.ask(f"/dl/{VERIFIED}.sha256", method, body=b"x" * 5000)
        assert got.status == status


ROOTS = [
    ("/dl", "/dl/"),
    ("/go", "/dl/"),
    ("/dl?mode=json&include=all", "/dl/?mode=json&include=all"),
]


@pytest.mark.parametrize(("target", "location"), ROOTS)
async def test_a_root_without_its_slash_redirects(
    mirror: Mirror, target: str, location: str
) -> None:
    got = await mirror.site.ask(target)
    assert (got.status, got.header("location")) == (301, location)


async def test_F10_a_url_of_more_than_2048_bytes_is_414(mirror: Mirror) -> None:
    for root in ("/dl/", "/api/v1/", "/"):
        at_most = root + "a" * (2048 - len(root))
        assert (await mirror.site.ask(at_most)).status == 404
        got = await mirror.site.ask(at_most + "a")
        assert got.status == 414
        assert is_one_line(got) if root == "/dl/" else is_problem(got)
        assert (await mirror.site.ask(f"{root}?{'a' * 2048}")).status == 414


HEADERS = [
    ({"X-Long": "a" * 16_384}, 431),
    ({"X-Long": "a" * 65_536}, 431),
    ({"X-Long": "a" * 1_048_576}, 431),
    ({f"X-{n}": "" for n in range(101)}, 431),
    ({f"X-{n}": "" for n in range(5000)}, 431),
    ({"X-Long": "a" * 16_000}, 200),
    ({f"X-{n}": "" for n in range(99)}, 200),
]


@pytest.mark.parametrize("target", [f"/dl/{VERIFIED}.sha256", "/healthz"])
@pytest.mark.parametrize(("headers", "status"), HEADERS, ids=range(len(HEADERS)))
async def test_F31_headers_over_the_limits_are_431_and_the_connection_ends(
    mirror: Mirror, target: str, headers: dict[str, str], status: int
) -> None:
    await mirror.site.ask(target)  # a prepared answer is no way around the limits
    got = await mirror.site.ask(target, headers=headers)
    assert got.status == status
    if status == 431:
        # A head that is refused before it is whole belongs to no application yet.
        is_admins = target == "/healthz" and got.header("content-type") != TEXT
        assert is_problem(got) if is_admins else is_one_line(got)
        assert got.header("connection") == "close"


REASONS = [
    ("GET", f"/dl/{QUARANTINED}", 502, "is quarantined: "),
    ("GET", "/dl/go1.42.src.tar.gz", 404, "there is no Go release file go1.42.src.tar.gz"),
    ("GET", "/dl/nonsense.exe", 404, "is not the name of a Go release file"),
    ("HEAD", "/go/../x", 400, "malformed path"),
    ("POST", "/dl/", 405, "only GET and HEAD are answered here"),
]


async def test_the_log_line_of_a_refusal_has_its_reason(mirror: Mirror, log: Log) -> None:
    for method, target, status, reason in REASONS:
        await mirror.site.ask(target, method)
        line = log.events("request")[-1]
        assert (line["path"], line["status"]) == (target, status)
        assert reason in line["reason"]
        assert "\n" not in line["reason"]
    await mirror.site.ask(f"/dl/{VERIFIED}")
    assert "reason" not in log.events("request")[-1]


async def test_F102_control_characters_of_a_request_reach_no_log_line_raw(
    mirror: Mirror, log: Log
) -> None:
    forged = "%0d%0aforged%1b%5b31m%c2%9b"
    for target in (
        f"/dl/{forged}",
        f"/api/v1/releases/{forged}",
        f"/api/v1/releases/files/{forged}",
    ):
        await mirror.site.ask(target)
    lines = [line for line in log.text.splitlines() if "forged" in line]
    assert len(lines) == 3
    for line in lines:
        assert json.loads(line)["event"] == "request"
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)


async def test_F102_an_escape_sequence_in_a_header_is_refused(mirror: Mirror) -> None:
    for value in ("\x1b[31mred", "a\x00b"):
        got = await mirror.site.raw(request("/dl/", headers={"User-Agent": value}))
        assert got.startswith(b"HTTP/1.1 400 ")


async def test_F25_a_token_in_a_query_reaches_no_log_line(mirror: Mirror, log: Log) -> None:
    secret = mirror.site.secret
    for path in ("/dl/", "/dl/nothing", "/api/v1/releases", "/api/v1/releases/plan"):
        await mirror.site.ask(f"{path}?token={secret}&access_token={secret}")
    await mirror.site.admin("/api/v1/releases/keys")
    assert log.text
    assert secret not in log.text


async def test_no_refusal_ingests_anything(mirror: Mirror) -> None:
    assert mirror.fake.hits[f"/go/{ON_DEMAND}"] == 0
