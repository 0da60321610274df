"""Secrets sealed in the database: under one key, for one place, and readable nowhere else."""

import base64
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import BadInputError, StorageError
from app.core.principal import OPERATOR
from app.services.secrets import KEY_BYTES, SecretBox, parse_key
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy, basic
from tests.fakes.modules import module
from tests.nouns import a_credential, an_upstream
from tests.services.modules.bench import INFO, LIST, ZIP, process

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
PLACE = "credential:acme:nexus"
CANARY = "cAnArY-7f3a9b"
X = module("example.com/x", "v1.0.0")


@pytest.mark.parametrize("secret", ["s", "p@ss w0rd", "x" * 5000, "ä"])
def test_what_was_sealed_opens_in_its_place(secret: str) -> None:
    sealed = SecretBox(KEY).seal(secret, PLACE)
    assert SecretBox(KEY).open(sealed, PLACE) == secret
    assert secret.encode() not in sealed or len(secret) == 1


def test_the_same_secret_is_never_sealed_alike() -> None:
    box = SecretBox(KEY)
    assert len({box.seal("s", PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("key", "place"),
    [(OTHER_KEY, PLACE), (KEY, "credential:acme:other"), (KEY, "credential:globex:nexus")],
)
def test_another_key_or_place_opens_nothing(key: bytes, place: str) -> None:
    with pytest.raises(StorageError, match="can't be opened with this key") as caught:
        SecretBox(key).open(SecretBox(KEY).seal(CANARY, PLACE), place)
    assert CANARY not in str(caught.value)


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    box = SecretBox(KEY)
    sealed = box.seal("secret", PLACE)
    for at in range(len(sealed)):
        for spoilt in (sealed[:at], sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]):
            with pytest.raises(StorageError):
                box.open(spoilt, PLACE)


@settings(max_examples=100)
@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_else(sealed: bytes) -> None:
    with pytest.raises(StorageError):
        SecretBox(KEY).open(sealed, PLACE)


def test_a_key_is_32_bytes_of_base64() -> None:
    assert parse_key(base64.b64encode(KEY).decode() + "\n") == KEY
    for bad in ("", "short", CANARY * 4, base64.b64encode(KEY[:-1]).decode(), "ä" * 44):
        with pytest.raises(BadInputError) as caught:
            parse_key(bad)
        assert not bad or bad not in str(caught.value)
    assert len(KEY) == KEY_BYTES


async def test_F87_a_credential_is_in_no_file_no_log_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = [CANARY, base64.b64encode(f"ci:{CANARY}".encode()).decode()]
    with FakeGoproxy([X], credential=basic("ci", CANARY)) as fake:
        async with process(tmp_path) as bench:
            await bench.tenant("acme")
            draft = a_credential("basic", CANARY, "ci")
            recorded = await bench.services.tenants.credentials.put(
                "acme", "nexus", draft, OPERATOR
            )
            await bench.route("acme", "*", an_upstream(fake.url, credential="nexus"))
            assert (await bench.ask(INFO, X.path, "v1.0.0")).body == X.info
            await bench.ask(ZIP, X.path, "v1.0.0")
            fake.credential = "Bearer another"
            errors = []
            for fault in (
                None,
                Fault.status(500),
                Fault.redirect("http://127.0.0.1:1/x"),
                Fault.html_200(),
            ):
                if fault is not None:
                    fake.fault(f"/{X.path}/@v/list", fault, times=None)
                with pytest.raises(Exception) as caught:
                    await bench.ask(LIST, X.path)
                errors.append(repr(caught.value) + repr(caught.value.__cause__))
            rows = await bench.services.shared.audit.list(after=0, limit=1000)
            policy = await bench.services.shared.policies.current(fresh=True)
            everything = repr(recorded) + repr(draft) + repr(errors) + repr(rows) + repr(policy)
    out = capsys.readouterr()
    everything += caplog.text + out.out + out.err
    for secret in shown:
        assert secret not in everything
        for file in (tmp_path / "data").rglob("*"):
            if file.is_file():
                assert secret.encode() not in file.read_bytes(), file


async def test_a_credential_goes_to_its_own_origin_alone(tmp_path: Path) -> None:
    with FakeGoproxy() as other, FakeGoproxy([X], credential=basic("ci", CANARY)) as fake:
        async with process(tmp_path) as bench:
            await bench.tenant("acme")
            await bench.services.tenants.credentials.put(
                "acme", "nexus", a_credential("basic", CANARY, "ci"), OPERATOR
            )
            upstream = an_upstream(fake.url, credential="nexus", redirect_to=(other.base_url,))
            await bench.route("acme", "*", upstream)
            fake.fault(f"/{X.path}/@v/list", Fault.redirect(f"{other.url}/{X.path}/@v/list"))
            with pytest.raises(Exception):  # noqa: B017
                await bench.ask(LIST, X.path)
            assert other.requests
            assert all("authorization" not in r.headers for r in other.requests)


async def test_a_secret_that_is_changed_is_used_at_once(tmp_path: Path) -> None:
    with FakeGoproxy([X], credential=basic("ci", "new")) as fake:
        async with process(tmp_path) as bench:
            await bench.tenant("acme")
            for secret, works in (("old", False), ("new", True)):
                draft = a_credential("basic", secret, "ci")
                await bench.services.tenants.credentials.put("acme", "nexus", draft, OPERATOR)
                if secret == "old":
                    await bench.route("acme", "*", an_upstream(fake.url, credential="nexus"))
                if works:
                    assert (await bench.ask(LIST, X.path)).body == b"v1.0.0\n"
                    continue
                with pytest.raises(
                    Exception, match=r"does not let this server in|refuses the credential"
                ):
                    await bench.ask(LIST, X.path)
