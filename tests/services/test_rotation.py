"""A new key for sealed secrets: nothing is lost, wherever it ends."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.errors import BadInputError, StorageError
from app.core.principal import OPERATOR
from app.db.engine import Database
from app.db.generation import EVERYTHING, changes_since, current_generation
from app.db.sealed import SealedTable
from app.services import rotation
from app.services.rotation import Rotation, place
from app.services.secrets import GivenKeys, KeyFile, KeySource, SecretBox, place_of
from app.services.tenants.credentials import CredentialService
from tests.nouns import a_credential
from tests.services.bench import WallClock
from tests.services.tenantlog.owner import process

ROOT = Path(rotation.__file__).parents[1]


class KilledError(BaseException):
    """The process ends here."""


async def no_pause(_seconds: float) -> None:
    """Wait for nobody."""


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.key"
    KeyFile(path).make()
    return path


async def filled(database: Database, source: KeySource, tmp_path: Path) -> dict[str, str]:
    """Record a credential and a log's key; return the secrets by their places."""
    box = SecretBox(source=source)
    with process(database.url, tmp_path) as owner:
        owner.logs._box = box  # the fixture's own key would be another one
        await owner.log()
        credentials = CredentialService(database, box, WallClock())
        await credentials.put("acme", "nexus", a_credential("bearer", "s3cret"), OPERATOR)
    secrets = await database.read(lambda s: SealedTable(s).all())
    opened = {place(one): box.open(one.sealed, place(one)) for one in secrets}
    assert {name.partition(":")[0] for name in opened} == {"credential", "log"}
    assert opened[place_of("acme", "nexus")] == "s3cret"
    return opened


async def unopened(database: Database, source: KeySource) -> list[str]:
    return await Rotation(database, source, WallClock(), no_pause).unopened()


async def opened(database: Database, source: KeySource) -> dict[str, str]:
    box = SecretBox(source=source)
    secrets = await database.read(lambda s: SealedTable(s).all())
    return {place(one): box.open(one.sealed, place(one)) for one in secrets}


@pytest.mark.both_shapes
async def test_everything_is_sealed_under_the_new_key(
    database: Database, tmp_path: Path, key_file: Path
) -> None:
    source = KeyFile(key_file)
    before, old = await filled(database, source, tmp_path), source.keys()
    generation = await database.read(current_generation)
    service = KeyFile(key_file)  # of a process that runs meanwhile
    rotated = await Rotation(database, source, WallClock(), no_pause).rotate("cli")
    assert (rotated.sealed, rotated.secrets, rotated.is_old_key_needed) == (2, 2, False)
    assert len(source.keys()) == 1
    assert source.keys() != old
    changes = await database.read(changes_since(generation))
    assert EVERYTHING in changes.scopes, "processes hold sealed secrets in memory"
    assert await opened(database, service) == before
    assert len(await unopened(database, GivenKeys(*old))) == 2


async def test_a_process_that_runs_seals_under_the_new_key_and_opens_with_both(
    key_file: Path,
) -> None:
    source, box = KeyFile(key_file), SecretBox(source=KeyFile(key_file))
    old = box.seal("old", "here")
    source.begin()
    new = box.seal("new", "here")
    assert SecretBox(source.keys()[0]).open(new, "here") == "new"
    assert (box.open(old, "here"), box.open(new, "here")) == ("old", "new")
    source.begin()  # a second begin makes no third key
    assert len(source.keys()) == 2
    source.end()
    assert not box.opens(old, "here")


@pytest.mark.parametrize("step", range(5))
async def test_killed_at_any_step_the_next_run_ends_it(
    database: Database,
    tmp_path: Path,
    key_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    source = KeyFile(key_file)
    before = await filled(database, source, tmp_path)
    run = Rotation(database, source, WallClock(), no_pause)
    steps: list[str] = []

    def counted(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counting(*args: object) -> object:
            steps.append(name)
            if len(steps) - 1 == step:
                raise KilledError
            return call(*args)

        return counting

    with monkeypatch.context() as patch:
        patch.setattr(source, "begin", counted("begin", source.begin))
        patch.setattr(source, "end", counted("end", source.end))
        patch.setattr(SealedTable, "replace", counted("replace", SealedTable.replace))
        patch.setattr(run, "_pause", counted("pause", no_pause))
        with pytest.raises(KilledError):
            await run.rotate("cli")
    assert await opened(database, KeyFile(key_file)) == before
    await Rotation(database, KeyFile(key_file), WallClock(), no_pause).rotate("cli")
    again = KeyFile(key_file)
    assert await opened(database, again) == before
    assert len(again.keys()) == 1


async def test_what_is_sealed_under_the_old_key_meanwhile_is_found(
    database: Database, tmp_path: Path, key_file: Path
) -> None:
    source = KeyFile(key_file)
    await filled(database, source, tmp_path)
    old_box = SecretBox(*source.keys())

    pauses = []

    async def late_change(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 1:
            return
        credentials = CredentialService(database, old_box, WallClock())
        await credentials.put("acme", "late", a_credential("bearer", "late"), OPERATOR)

    rotated = await Rotation(database, source, WallClock(), late_change).rotate("cli")
    assert (rotated.sealed, len(pauses)) == (3, 2)
    assert (await opened(database, source))[place_of("acme", "late")] == "late"


async def test_a_key_from_outside_needs_the_one_before(database: Database, tmp_path: Path) -> None:
    old, new = b"o" * 32, b"n" * 32
    before = await filled(database, GivenKeys(old), tmp_path)
    with pytest.raises(BadInputError, match="MOORAGE_SECRETS_KEY_BEFORE"):
        await Rotation(database, GivenKeys(old), WallClock(), no_pause).rotate("cli")
    both = GivenKeys(new, old)
    rotated = await Rotation(database, both, WallClock(), no_pause).rotate("cli")
    assert rotated.is_old_key_needed
    assert await opened(database, GivenKeys(new)) == before


async def test_a_secret_that_no_key_opens_stops_the_rotation_and_loses_nothing(
    database: Database, tmp_path: Path, key_file: Path
) -> None:
    await filled(database, GivenKeys(b"x" * 32), tmp_path)
    source = KeyFile(key_file)
    with pytest.raises(StorageError, match="can't be opened"):
        await Rotation(database, source, WallClock(), no_pause).rotate("cli")
    assert len(source.keys()) == 2
    assert len(await unopened(database, GivenKeys(b"x" * 32))) == 0


def test_every_sealed_place_is_rotated() -> None:
    """Whoever seals names a place of secrets.py, and `db/sealed.py` has its column."""
    calls = [
        (path.name, match[1])
        for path in sorted(ROOT.rglob("*.py"))
        for match in re.finditer(r"box\.seal\(([^\n]*)\n", path.read_text())
    ]
    assert calls
    known = (
        "place_of(",
        "log_place(",
        "fleet_place(",
        "webhook_place(",
        ", place)",
        "CANARY_PLACE)",
    )
    assert [call for call in calls if not any(name in call[1] for name in known)] == []
