"""`moorage backup` and `moorage restore`: copies of everything, and putting one back."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.interrupt import interruptible
from app.cli.output import Exit, complain, emit, table
from app.cli.progress import busy, counted
from app.cli.session import Here, Json, run_local
from app.core.errors import BadInputError, UnfitDatabaseError
from app.core.size import human_bytes

if TYPE_CHECKING:
    from app.cli.output import Shown
    from app.services.assembly import Services
    from app.services.backup.making import Pruned
    from app.services.backup.place import Backup
    from app.services.backup.restoring import Restored
    from app.services.fsck import FsckReport

backup = typer.Typer(
    name="backup", help="Copies of everything, made while the service runs.", no_args_is_help=True
)

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PLACE",
        help='A directory or "s3://bucket/prefix"; else MOORAGE_BACKUP__URL.',
    ),
]
_RESUMED = (
    "no service starts on what is there; the same `moorage restore` goes on where this one stopped"
)
_BackupId = Annotated[
    str, typer.Argument(metavar="[ID]", help="As `moorage backup list` shows it.")
]


@backup.command()
def create(store: Store = None, _here: Here = None, as_json: Json = False) -> None:
    """Make a backup: what an earlier one has is not copied again.

    Ends with 1 if the backup is complete but for blobs that the store lacks.
    """
    from app.cli.inprocess import command_settings
    from app.wiring import backup_place

    settings = command_settings()
    place = backup_place(settings, store)
    with counted("blobs") as progress:
        made = run_local(
            settings,
            lambda services: services.upkeep.backups.create(place, progress),
            interrupted="there is no such backup; the next `moorage backup create` uses what was "
            "copied",
        )
    emit(_shape(made), as_json, _created)
    for name in made.manifest.behind:
        complain(f"{name} grew during the backup: restored, that log has to be recovered")
    if made.manifest.lacking:
        complain("the store lacks blobs that the database names; see `moorage fsck`")
        raise typer.Exit(Exit.FAILED)


@backup.command("list")
def list_backups(store: Store = None, _here: Here = None, as_json: Json = False) -> None:
    """List the complete backups of a place, oldest first."""
    backups = _place(store).all()
    emit([_shape(one) for one in backups], as_json, _listed)


@backup.command()
def verify(
    backup_id: _BackupId = "latest",
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare the sizes of blobs, not their bytes.")
    ] = False,
    discard: Annotated[
        bool,
        typer.Option(
            "--discard", help="Remove what is damaged, so that the next `create` stores it again."
        ),
    ] = False,
    store: Store = None,
    _here: Here = None,
    as_json: Json = False,
) -> None:
    """Check a backup by itself: its manifest, the database, and every blob."""
    place = _place(store)
    one = place.get(backup_id)
    with counted("blobs") as progress:
        problems = place.problems(one, deep=not quick, discard=discard, progress=progress)
    result = _shape(one) | {"deep": not quick, "problems": problems}
    emit(result, as_json, _verified)
    if problems:
        raise typer.Exit(Exit.FAILED)


@backup.command()
def prune(
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many of the newest stay.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: Store = None,
    _here: Here = None,
    as_json: Json = False,
) -> None:
    """Remove old backups, what only they had, and what a killed backup left."""
    from app.cli.inprocess import command_settings
    from app.wiring import backup_place

    settings = command_settings()
    place = backup_place(settings, store)
    with busy("looking at backups"):
        pruned = run_local(
            settings,
            lambda services: services.upkeep.backups.prune(place, keep=keep, dry_run=dry_run),
            interrupted="the backups that stay are whole; the next `moorage backup prune` goes on",
        )
    emit(_pruned_shape(pruned, dry_run=dry_run), as_json, _pruned)


def restore(
    backup_id: _BackupId = "latest",
    store: Store = None,
    secrets_key: Annotated[
        Path | None,
        typer.Option(
            "--secrets-key", metavar="FILE", help="Your copy of keys/secrets.key, put back too."
        ),
    ] = None,
    new_secrets_key: Annotated[
        bool,
        typer.Option(
            "--new-secrets-key",
            help="Go on without the old key: credentials must be set again, and logs begin anew.",
        ),
    ] = False,
    heads: Annotated[
        Path | None,
        typer.Option(
            "--heads", metavar="DIR", help="keys/logs of the lost data directory, if it survives."
        ),
    ] = None,
    refetch: Annotated[
        bool, typer.Option("--refetch", help="Fetch missing public blobs again from upstream.")
    ] = False,
    same_store: Annotated[
        bool,
        typer.Option(
            "--same-store",
            help="The store of MOORAGE_STORAGE__URL is that of the database, which is lost.",
        ),
    ] = False,
    _here: Here = None,
    as_json: Json = False,
) -> None:
    """Put a backup back where the settings say: data directory, database, store; and check it.

    Data directory and database must be empty. Killed at any point, it goes on when it is run again.

    Ends with 1 if something that should be served can't be.
    """
    from app import logs, wiring
    from app.settings import load_settings

    settings = load_settings()
    logs.configure("critical", settings.log_format, sys.stderr)
    if settings.secrets_key is None and secrets_key is None and not new_secrets_key:
        raise BadInputError(
            "a backup has no keys/secrets.key: name your copy with --secrets-key, set "
            "MOORAGE_SECRETS_KEY, or go on without it by --new-secrets-key"
        )
    place = wiring.backup_place(settings, store)
    with interruptible(_RESUMED), counted("blobs") as progress:
        restored = wiring.restore(
            settings,
            place,
            backup_id,
            secrets_key=secrets_key,
            new_secrets_key=new_secrets_key,
            heads=heads,
            same_store=same_store,
            progress=progress,
        )

    try:
        report, sealed = run_local(
            settings,
            partial(_check, refetch=refetch),
            interrupted=f"backup {restored.backup} is restored; run `moorage fsck`",
        )
    except UnfitDatabaseError as error:  # the wrong key: all is there, and no service starts on it
        raise UnfitDatabaseError(
            f"backup {restored.backup} is restored, and not checked yet: {error}; then run "
            "`moorage fsck`"
        ) from error
    emit(_restored_shape(restored, report, sealed), as_json, _restored)
    if not report.clean:
        raise typer.Exit(Exit.FAILED)


async def _check(services: "Services", *, refetch: bool) -> "tuple[FsckReport, list[str]]":
    """Return what fsck finds after a restore, and the secrets that the key does not open."""
    with counted("blobs checked") as progress:
        report = await services.upkeep.fsck.run(deep=False, repair=refetch, progress=progress)
    return report, await services.upkeep.rotation.unopened()


def _place(store: str | None) -> Any:
    from app.settings import load_settings
    from app.wiring import backup_place

    return backup_place(load_settings(), store)


def _shape(one: "Backup") -> dict[str, Any]:
    manifest = one.manifest
    return {
        "id": one.id,
        "made_at": manifest.made_at.isoformat(),
        "program": manifest.program,
        "database": manifest.kind,
        "database_bytes": manifest.database.size_bytes,
        "blobs": manifest.blob_count,
        "blob_bytes": manifest.blob_bytes,
        "new_bytes": manifest.new_bytes,
        "behind": list(manifest.behind),
        "lacking": [str(digest) for digest in manifest.lacking],
    }


def _created(one: dict[str, Any]) -> str:
    return (
        f"backup {one['id']}: database {human_bytes(one['database_bytes'])}, "
        f"{one['blobs']} blobs with {human_bytes(one['blob_bytes'])}; "
        f"{human_bytes(one['new_bytes'])} were new"
    )


def _listed(backups: list[dict[str, Any]]) -> "Shown":
    if not backups:
        return "there is no backup in this place; `moorage backup create` makes one"
    rows = [
        (
            one["id"],
            human_bytes(one["database_bytes"]),
            one["blobs"],
            human_bytes(one["blob_bytes"]),
            human_bytes(one["new_bytes"]),
            f"lacks {len(one['lacking'])} blobs" if one["lacking"] else "",
        )
        for one in backups
    ]
    return table(("ID", "DATABASE", "BLOBS", "SIZE", "NEW", "NOTE"), rows)


def _verified(result: dict[str, Any]) -> str:
    if result["problems"]:
        return "\n".join([*result["problems"], f"backup {result['id']} can't be relied on"])
    how = "every byte hashed" if result["deep"] else "sizes compared"
    return f"backup {result['id']} is whole: database and {result['blobs']} blobs, {how}"


def _pruned_shape(pruned: "Pruned", *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "removed": list(pruned.removed),
        "kept": list(pruned.kept),
        "objects": pruned.objects,
        "bytes": pruned.size_bytes,
    }


def _pruned(result: dict[str, Any]) -> str:
    verb = "would be removed" if result["dry_run"] else "removed"
    return (
        f"{verb}: {len(result['removed'])} backups, {result['objects']} objects with "
        f"{human_bytes(result['bytes'])}; {len(result['kept'])} backups stay"
    )


def _restored_shape(
    restored: "Restored", report: "FsckReport", sealed: list[str]
) -> dict[str, Any]:
    return {
        "backup": restored.backup,
        "blobs": restored.blobs,
        "blob_bytes": restored.blob_bytes,
        "missing": [str(digest) for digest in restored.missing],
        "newer_heads": list(restored.newer_heads),
        "unopened_secrets": sealed,
        "clean": report.clean,
        "findings": _findings(report),
    }


def _findings(report: "FsckReport") -> list[dict[str, Any]]:
    return [
        {"problem": f.problem, "object": f.object, "files": list(f.names), "result": f.result}
        for f in report.findings
        if f.harmful
    ]


def _restored(result: dict[str, Any]) -> str:
    lines = [
        f"restored backup {result['backup']}: {result['blobs']} blobs with "
        f"{human_bytes(result['blob_bytes'])}"
    ]
    lines += [_newer(name) for name in result["newer_heads"]]
    if result["unopened_secrets"]:
        lines.append(
            f"the key does not open {len(result['unopened_secrets'])} secrets; the first is "
            f"{result['unopened_secrets'][0]}: give the key of the backup's time"
        )
    if result["missing"]:
        lines.append(f"the backup lacks {len(result['missing'])} blobs")
    lines += [f"{f['problem']}: {f['object']} {' '.join(f['files'])}" for f in result["findings"]]
    lines.append("fsck: clean" if result["clean"] else "fsck: not clean, see `moorage fsck`")
    return "\n".join(lines)


def _newer(name: str) -> str:
    """Return what it means that a head is newer than the backup, and what to do."""
    if name == "audit.chain":
        return (
            "the audit log had rows that this backup lacks: make the revocations and denials since "
            "then again, and run `moorage audit recover`"
        )
    return (
        f"{name}: clients were told of more records than this backup has, so that the log is not "
        "written to; see `moorage sumdb recover`"
    )
