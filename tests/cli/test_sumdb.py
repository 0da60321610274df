"""`moorage sumdb`: here and through a server, and proofs that outsiders check with a key alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from app.core.proof import parse_proof
from tests.cli.port import Port, Way, served_port
from tests.e2e.process import Site, wait_until
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.fakes.sumdb import FakeSumdb

X, Y, Z = (module(f"example.com/{name}", "v1.0.0") for name in ("x", "Upper", "z"))
ABSENT = "example.com/absent@v1.0.0"
OF = ("--tenant", "acme")


@pytest.fixture(scope="module")
def public() -> Iterator[FakeSumdb]:
    with FakeSumdb("sum.fake.example/path") as log:
        for one in (X, Y, Z):
            log.add_module(one)
        yield log


@pytest.fixture(scope="module")
def port(warm: Warm, public: FakeSumdb) -> Iterator[Port]:
    upstreams = [{"name": public.name, "vkey": public.vkey, "url": public.url}]
    with (
        FakeGoproxy([X, Y, Z]) as proxy,
        served_port(warm, sumdb__upstreams=upstreams, public_url="https://moorage.example") as port,
    ):
        tenant = {
            "default": "allow",
            "anonymous_read": True,
            "routes": [{"pattern": "*", "upstreams": [proxy.url]}],
        }
        body = {"document": {"tenants": {"acme": tenant}}}
        assert port.server.admin("POST", "/apply", body).status == 200
        yield port


@pytest.fixture(scope="module")
def vkey(port: Port) -> str:
    """Acme's log, with records of X and Y."""
    made = port.done("sumdb", "create", *OF)
    for one in (X, Y):
        assert port.here("sumdb", "prefetch", *OF, f"{one.path}@{one.version}").code == 0
    return str(made["vkey"])


def test_a_tenants_first_log_says_what_clients_need(way: Way, tenant: str) -> None:
    absent = way("sumdb", "show", "--tenant", tenant)
    assert (absent.code, absent.out) == (1, "")
    assert "see `moorage sumdb create`" in absent.err
    made = way("sumdb", "create", "--tenant", tenant)
    shown = way.json("sumdb", "show", "--tenant", tenant)
    assert (made.code, made.err) == (0, "")
    assert f"  GOSUMDB='{shown['vkey']}'\n" in made.out
    assert f"  moorage tenant client-config {tenant}\n" in made.out
    assert way("sumdb", "create", "--tenant", tenant) == made
    env = way("tenant", "client-config", tenant, "--for", "env").out
    assert f"GOSUMDB={shown['vkey']}\n" in env


def test_a_log_is_shown_with_its_head(port: Port, vkey: str) -> None:
    shown = port.both("sumdb", "show", *OF)
    assert f"vkey      {vkey}\nrecords   2\n" in shown.out
    assert "head\n    go.sum database tree\n    2\n" in shown.out


def test_a_proof_is_checked_where_no_settings_and_no_data_are(
    port: Port, vkey: str, tmp_path: Path
) -> None:
    name = f"{Y.path}@{Y.version}"
    printed = port.both("sumdb", "prove", name, *OF)
    path = tmp_path / "proof"
    written = port.here("sumdb", "prove", name, *OF, "--out", str(path))
    statement = f"{name} is record 1 of moorage.internal/acme, in its tree of 2 records"
    assert written.out.splitlines()[0] == f"{path}: {statement}"
    assert path.read_text() == printed.out
    outsider = Site(tmp_path, {"LC_ALL": "C.UTF-8", "MOORAGE_DATA_DIR": "/nonexistent"})

    def check(file: Path, key: str, *more: str) -> tuple[int, str, str]:
        ended = port.warm.run(outsider, "sumdb", "check", str(file), "--vkey", key, *more)
        return ended.code, ended.out, ended.err

    assert check(path, vkey) == (
        0,
        "it holds: record 1 of moorage.internal/acme, in its tree of 2 records\n"
        f"{Y.path} {Y.version} {Y.h1}\n{Y.path} {Y.version}/go.mod {Y.mod_h1}\n",
        "",
    )
    result = json.loads(check(path, vkey, "--json")[1])
    assert (result["holds"], result["zip_h1"]) == (True, Y.h1)

    raw = path.read_bytes()
    forged = tmp_path / "forged"
    for broken in (raw.replace(Y.h1.encode(), X.h1.encode()), raw[:-5], b"", b"\xff"):
        forged.write_bytes(broken)
        code, out, err = check(forged, vkey)
        assert (code, out) == (1, "")
        assert err.startswith("moorage: ")
    assert parse_proof(raw).hashes
    assert check(path, vkey.replace("acme", "other"))[0] == 2
    assert check(tmp_path / "absent", vkey)[0] == 2


def test_a_whole_log_is_verified_and_damage_ends_with_1(port: Port, vkey: str) -> None:
    whole = port.both("sumdb", "verify", *OF)
    assert (whole.code, whole.out) == (0, "moorage.internal/acme: whole, 2 records\n")
    assert whole.out in port.both("sumdb", "verify", "--all").out
    assert "logs of tenants: " in port.here("fsck").out
    [head] = (port.site.folder / "data" / "keys" / "logs").glob("*acme.head")
    kept = head.read_bytes()
    head.write_bytes(b"damaged")
    try:
        for arguments in (("verify", *OF), ("verify", "--all")):
            broken = port.both("sumdb", *arguments)
            assert broken.code == 1
            assert "moorage.internal/acme: NOT WHOLE" in broken.out
        checked = port.here("fsck", "--json")
        assert checked.code == 1
        assert [f["object"] for f in checked.json["findings"]] == ["log:moorage.internal/acme"]
        assert "log:moorage.internal/acme" in port.here("fsck").out
    finally:
        head.write_bytes(kept)
    assert port.here("fsck").code == 0


def test_F80_recovering_says_what_clients_will_see(way: Way, tenant: str) -> None:
    of = ("--tenant", tenant)
    first = way.json("sumdb", "create", *of)
    undecided = way("sumdb", "recover", *of)
    assert undecided.code == 2
    assert "SECURITY ERROR" in undecided.err
    assert "Every client needs the\nnew vkey" in undecided.err
    fine = way("sumdb", "recover", *of, "--accept")
    assert (fine.code, "nothing is wrong" in fine.err) == (1, True)
    folder = way.port.site.folder / "data" / "keys" / "logs"
    head = folder / f"{quote(first['name'], safe='')}.head"
    head.write_bytes(b"damaged")
    assert way.json("sumdb", "recover", *of, "--accept")["vkey"] == first["vkey"]
    head.write_bytes(b"damaged")
    anew = way("sumdb", "recover", *of, "--new-log", "--yes")
    second = way.json("sumdb", "show", *of)
    assert f"  GOSUMDB='{second['vkey']}'\n" in anew.out
    assert [one["vkey"] for one in second["retired"]] == [first["vkey"]]


def test_prefetching_tells_what_did_not_go_well(way: Way, vkey: str, tmp_path: Path) -> None:
    go_sum = tmp_path / "go.sum"
    go_sum.write_text(f"{Z.path} {Z.version}/go.mod {Z.mod_h1}\n\n{X.path} {X.version} {X.h1}\n")
    good = way("sumdb", "prefetch", *OF, "--go-sum", str(go_sum), f"{Y.path}@{Y.version}")
    assert (good.code, good.out, good.err) == (0, "3 ok, 0 skipped, 0 failed\n", "")
    bad = way("sumdb", "prefetch", *OF, f"{X.path}@{X.version}", ABSENT)
    assert (bad.code, bad.err) == (1, "")
    assert f"{ABSENT}  failed   " in bad.out
    assert bad.out.endswith("1 ok, 0 skipped, 1 failed\n")
    none = way("sumdb", "prefetch", *OF, "--toolchains")
    assert (none.code, "no release archive is mirrored yet" in none.out) == (0, True)


def test_relayed_logs_and_evidence_against_them(port: Port, public: FakeSumdb, vkey: str) -> None:
    logs = port.both("sumdb", "logs").out
    assert logs.splitlines()[1].startswith(f"{public.name}  {public.url}  ")
    assert port.both("sumdb", "evidence").out == "nothing was ever refused\n"
    other = module("example.com/other", "v1.0.0")
    public.add_module(other)
    public.forge_record(other.path, other.version)
    assert port.here("sumdb", "prefetch", *OF, f"{other.path}@{other.version}").code == 1
    public.heal()
    evidence = port.both("sumdb", "evidence").out
    assert "  the newest head known then\n    go.sum database tree\n" in evidence
    assert port.both("sumdb", "evidence", public.name).out == evidence


BAD = [
    (("show", "--tenant", "nobody"), 1),
    (("create", "--tenant", "nobody"), 1),
    (("prove", "example.com/x", *OF), 2),
    (("prove", "example.com/x@master", *OF), 2),
    (("prove", "example.com/x@v1.9.9", *OF), 1),
    (("verify", "--tenant", "nobody"), 1),
    (("recover", "--tenant", "nobody", "--accept"), 1),
    (("prefetch", "--tenant", "nobody", "example.com/x@v1.0.0"), 1),
    (("prefetch", *OF, "--go-sum", "/nonexistent"), 2),
    (("evidence", "absent.example"), 1),
]


@pytest.mark.parametrize(("arguments", "code"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_a_bad_question_ends_in_one_line_and_the_same_everywhere(
    port: Port, vkey: str, arguments: tuple[str, ...], code: int
) -> None:
    ended = port.both("sumdb", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("moorage: ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [("verify",), ("verify", "--all", *OF), ("prefetch", *OF)])
def test_what_is_missing_on_the_command_line_is_wrong_usage(
    port: Port, arguments: tuple[str, ...]
) -> None:
    assert port.here("sumdb", *arguments).code == 2


def test_a_token_with_the_scope_audit_reads_the_texts_of_records(port: Port, vkey: str) -> None:
    secret = port.done("token", "create", *OF, "--scope", "audit", "--scope", "read")["token"]
    name = vkey.partition("+")[0]
    url = f"{port.server.url}/goproxy/acme/sumdb/{name}/tile/8/data/000.p/2"
    request = Request(url, headers={"Authorization": f"Bearer {secret}"})

    def answered() -> bool:
        try:
            with urlopen(request) as answer:
                return X.h1.encode() in answer.read()
        except HTTPError as error:
            assert error.code == 401  # the server has yet to notice the token
            return False

    wait_until(answered, "the records' texts")
