"""`moorage module`: publishing versions of a company's own modules, and taking them back."""

import http.client
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from app.cli.api import path_of
from app.cli.output import Exit, complain, emit, table
from app.cli.session import Here, Json, ServerUrl, ask, ask_all
from app.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.cli.output import Shown
    from app.core.gitzip import TreeFile

_CHUNK_BYTES = 256 * 1024
_ANSWER_S = 900.0  # the server checks a zip of 500 MB before it answers
_OK = (http.client.OK, http.client.CREATED)

module = typer.Typer(
    name="module", help="Modules that the company publishes itself.", no_args_is_help=True
)

_Tenant = Annotated[
    str, typer.Option("--tenant", help="Whose prefix the module is below.", show_default=False)
]
_Version = Annotated[str, typer.Argument(metavar="MODULE@VERSION", help='"corp.example/x@v1.2.3".')]


@module.command()
def publish(
    source: Annotated[
        Path, typer.Argument(metavar="DIR|ZIP", help="The module's folder, or its zip.")
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE@VERSION]",
            help="For a folder the version is needed: corp.example/x@v1.2.3, or @v1.2.3 with the"
            " path of go.mod. A zip names both.",
        ),
    ] = None,
    tenant: _Tenant = "default",
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Publish a version; its bytes never change. The token needs the scope `publish`."""
    if source.is_dir():
        with tempfile.TemporaryFile() as archive:
            full_name = _zip_folder(source, name, archive)
            result = _upload(archive, full_name, tenant, server_url)
    else:
        try:
            with source.open("rb") as archive:
                full_name = _name_of_zip(archive, name, source)
                result = _upload(archive, full_name, tenant, server_url)
        except OSError as error:
            raise BadInputError(f"{source} can't be read: {error.strerror}") from error
    emit(result, as_json, lambda shown: str(shown["result"]))


@module.command("list")
def list_published(
    tenant: _Tenant = "default",
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """List the versions that a tenant has published, retired ones too."""
    emit(ask_all(server_url, path_of("tenants", tenant, "published")), as_json, _listed)


@module.command()
def show(
    name: _Version,
    tenant: _Tenant = "default",
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Show one published version: who published it when, its hashes, its state."""
    path, version = _split(name)
    query = f"?module={quote(path, safe='')}"
    versions = ask_all(server_url, path_of("tenants", tenant, "published") + query)
    known = next((one for one in versions if one["version"] == version), None)
    if known is None:
        complain(f"tenant {tenant} has not published {name}; see `moorage module list`")
        raise typer.Exit(Exit.FAILED)
    emit(known, as_json, _shown)


@module.command()
def retire(
    name: _Version,
    tenant: _Tenant = "default",
    reason: Annotated[str, typer.Option("--reason", help="One line for people.")] = "",
    gone: Annotated[
        bool,
        typer.Option(
            "--gone", help="For a leak: remove the bytes and answer 410 for ever. Not undone."
        ),
    ] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Take a version out of lists and @latest; whoever has it in go.sum still gets it."""
    path, version = _split(name)
    body = {"module": path, "version": version, "reason": reason, "gone": gone}
    result = ask(server_url, "POST", path_of("tenants", tenant, "published", "retire"), body)
    emit(result, as_json, _shown)


@module.command("import")
def import_folder(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A GOMODCACHE, or the folder of an Athens disk store."),
    ],
    tenant: _Tenant = "default",
    _here: Here = None,
    as_json: Json = False,
) -> None:
    """Bring stored modules over, verified as if fetched, on the server's own machine.

    A module belongs to the first upstream of the tenant's route to it. Ends with 1 if something was
    refused; what was imported stays. For a server elsewhere, copy DIR to its machine first.
    """
    from app.cli.progress import counted
    from app.cli.session import local

    with counted("versions") as report:
        outcome = local(
            lambda services: services.modules.imports.run(tenant, folder.absolute(), report)
        )
    result = {
        "imported": outcome.imported,
        "present": outcome.present,
        "vouched": outcome.vouched,
        "refused": [{"name": name, "reason": reason} for name, reason in outcome.refused],
    }
    emit(result, as_json, _imported)
    if outcome.refused:
        raise typer.Exit(Exit.FAILED)


def _imported(result: dict[str, Any]) -> str:
    taken = result["imported"] + result["present"]
    lines = [f"refused {one['name']}: {one['reason']}" for one in result["refused"]]
    if taken:
        lines.append(
            f"the public checksum database vouches for {result['vouched']} of {taken} files; "
            "no log was asked about the others"
        )
    lines.append(
        f"{result['imported']} files imported, {result['present']} were stored already, "
        f"{len(result['refused'])} refused"
    )
    return "\n".join(lines)


def _split(name: str) -> tuple[str, str]:
    path, at, version = name.rpartition("@")
    if not at or not path or not version:
        raise BadInputError(f"{name[:200]!a} is no MODULE@VERSION, such as corp.example/x@v1.2.3")
    return path, version


def _zip_folder(folder: Path, name: str | None, archive: IO[bytes]) -> str:
    """Write the zip of a folder; return "module@version"."""
    from app.core import gomod
    from app.core.sourcezip import write_source_zip

    try:
        go_mod = (folder / "go.mod").read_bytes()
    except FileNotFoundError:
        go_mod = b""
    except OSError as error:
        raise BadInputError(f"{folder}/go.mod can't be read: {error.strerror}") from error
    declared = gomod.module_path(go_mod) if go_mod else None
    path, _, version = (name or "").rpartition("@")
    path = path or declared or ""
    if not version or not path:
        raise BadInputError(
            f"which version is it? moorage module publish {folder} {path or 'MODULE'}@VERSION"
        )
    try:
        files = write_source_zip(
            archive,
            f"{path}@{version}",
            _files_of(folder),
            go_mod,
            lambda below: (folder / below).open("rb"),
        )
    except OSError as error:
        raise BadInputError(f"{error.filename} can't be read: {error.strerror}") from error
    if not files:
        raise BadInputError(f"{folder} has no files")
    return f"{path}@{version}"


def _files_of(folder: Path) -> "Iterator[TreeFile]":
    from app.core.gitzip import TreeFile
    from app.core.sourcezip import VERSION_CONTROL

    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if one not in VERSION_CONTROL)
        for name in names:
            path = Path(parent, name)
            status = path.lstat()
            below = path.relative_to(folder).as_posix()
            yield TreeFile(below, stat.S_ISREG(status.st_mode), status.st_size)


def _name_of_zip(archive: IO[bytes], name: str | None, source: Path) -> str:
    from app.core.sourcezip import name_in

    declared = name_in(archive)
    if not declared:
        raise BadInputError(f"{source} is no module zip: its files are not below MODULE@VERSION/")
    if name is not None and name not in (declared, f"@{declared.rpartition('@')[2]}"):
        raise BadInputError(f"{source} is the zip of {declared}, not of {name}")
    return declared


def _upload(archive: IO[bytes], name: str, tenant: str, server_url: str | None) -> dict[str, str]:
    """Send a zip, to a server or to the services of the local data directory."""
    from app.cli.progress import uploading
    from app.core.module import check_path, escape_path, escape_version, is_canonical_for

    path, version = _split(name)
    check_path(path)
    if not is_canonical_for(path, version):
        raise BadInputError(
            f"{version[:80]!a} is not a canonical version of {path[:200]}; publish one such as"
            " v1.2.3 (from v2.0.0 on, the path ends in /v2)"
        )
    size_bytes = archive.seek(0, os.SEEK_END)
    archive.seek(0)
    with uploading(name, size_bytes) as report:
        if server_url is None:
            line = _publish_here(archive, path, version, tenant, report, size_bytes)
        else:
            escaped = f"{escape_path(path)}/@v/{escape_version(version)}.zip"
            target = f"/goproxy/{quote(tenant, safe='')}/{quote(escaped, safe='/!@')}"
            line = _put(server_url, target, archive, size_bytes, report)
    return {"module": path, "version": version, "result": line}


def _put(
    server_url: str,
    target: str,
    archive: IO[bytes],
    size_bytes: int,
    report: "Callable[[int], None]",
) -> str:
    from app.cli.api import error_of
    from app.cli.remote import Remote, environment_token

    def pieces() -> Iterator[bytes]:
        while piece := archive.read(_CHUNK_BYTES):
            yield piece
            report(len(piece))

    remote = Remote(server_url, environment_token())
    status, answer = remote.put(target, pieces(), size_bytes, _ANSWER_S)
    line = answer.decode("utf-8", "replace").strip()
    if status not in _OK:
        raise error_of(status, line)
    return line


def _publish_here(
    archive: IO[bytes],
    path: str,
    version: str,
    tenant: str,
    report: "Callable[[int], None]",
    size_bytes: int,
) -> str:
    from collections.abc import AsyncIterator

    from app.cli.session import local
    from app.core.principal import OPERATOR
    from app.services.modules.uploads import Upload

    async def pieces() -> AsyncIterator[bytes]:
        while piece := archive.read(_CHUNK_BYTES):
            yield piece
            report(len(piece))

    upload = Upload(OPERATOR, tenant, path, version, pieces(), size_bytes)
    published = local(lambda services: services.sumdb.publishing.publish(upload))
    return published.line


def _listed(versions: list[dict[str, Any]]) -> "Shown":
    if not versions:
        return "nothing is published"
    return table(
        ("module", "version", "state", "published", "by", "bytes"),
        [
            (
                one["module"],
                one["version"],
                one["state"],
                one["published_at"][:16].replace("T", " "),
                one["publisher"],
                one["size_bytes"],
            )
            for one in versions
        ],
    )


def _shown(one: dict[str, Any]) -> str:
    why = f" ({one['reason']})" if one["reason"] else ""
    return "\n".join(
        [
            f"{one['module']}@{one['version']}",
            f"  state      {one['state']}{why}, since {one['changed_at'][:19]}",
            f"  published  {one['published_at'][:19]} by {one['publisher']}",
            f"  bytes      {one['size_bytes']}",
            f"  sha256     {one['sha256']}",
            f"  h1         {one['h1']}",
        ]
    )
