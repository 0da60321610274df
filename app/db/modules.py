"""Rows of stored module files.

Each row belongs to an origin. A body of up to INLINE_BYTES is in its row, so that one commit writes
a `.info` or `.mod`, and one query reads it. A larger body and every zip is a blob.

Not here: answers that change (`moduleanswers`), evidence of contradictions (`moduleconflicts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ForeignKey,
    Index,
    UniqueConstraint,
    bindparam,
    delete,
    exists,
    false,
    insert,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from app.core.digest import Digest
from app.core.goproxy import RequestKind
from app.core.logstate import LogState
from app.db.base import Base, table_of
from app.db.blobs import BlobRow
from app.db.lookup import Lookup, LookupQuery
from app.db.moduleanswers import ModuleAnswerRow
from app.db.tenants import TenantRow

INLINE_BYTES = 64 * 1024


class ModuleFileRow(Base):
    """One `.info`, `.mod` or `.zip` that was checked.

    A zip with neither body nor blob was evicted: its hashes stay, its bytes are fetched again.
    `tenant_id` is the tenant for which the file was brought in, whose quota it counts for; no
    foreign key: the file stays when the tenant goes.
    """

    __tablename__ = "module_files"
    __table_args__ = (
        UniqueConstraint("origin_id", "module", "version", "kind"),
        # The check of a tenant's log looks for each record under every origin.
        Index("ix_module_files_module_version", "module", "version"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    origin_id: Mapped[int] = mapped_column(ForeignKey("origins.id"))
    module: Mapped[str]
    version: Mapped[str]
    kind: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[bytes | None]
    blob_sha256: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    h1: Mapped[str]
    go_mod_h1: Mapped[str]
    log_state: Mapped[str] = mapped_column(index=True)
    stored_at: Mapped[datetime]
    tenant_id: Mapped[int | None] = mapped_column(index=True)

    blob: Mapped[BlobRow | None] = relationship(lazy="raise")


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A stored file of a module version.

    Attributes:
        sha256: of the bytes.
        body: the bytes if they are in the row; None if they are a blob.
        h1: of a zip's files, or of a .mod as the single file go.mod; "" for .info.
        go_mod_h1: of the zip's go.mod (the synthetic one if the zip has none); "" for other kinds.
        log_state: the public log's answer about a .mod or zip.
        damaged: whether the blob must be fetched again.
        evicted: whether that is because retention let the bytes go.
    """

    origin_id: int
    module: str
    version: str
    kind: RequestKind
    sha256: Digest
    size_bytes: int
    stored_at: datetime
    body: bytes | None = None
    h1: str = ""
    go_mod_h1: str = ""
    log_state: LogState = LogState.NONE
    damaged: bool = False
    evicted: bool = False

    @property
    def name(self) -> str:
        """The name for messages: "example.com/x@v1.0.0.zip"."""
        return f"{self.module}@{self.version}.{self.kind}"


_TABLE, _BLOBS = table_of(ModuleFileRow), table_of(BlobRow)
_FILES = (
    select(
        _TABLE.c.origin_id,
        _TABLE.c.module,
        _TABLE.c.version,
        _TABLE.c.kind,
        _TABLE.c.sha256,
        _TABLE.c.size_bytes,
        _TABLE.c.stored_at,
        _TABLE.c.body,
        _TABLE.c.h1,
        _TABLE.c.go_mod_h1,
        _TABLE.c.log_state,
        _BLOBS.c.damaged,
        _TABLE.c.blob_sha256,
    )
    .outerjoin_from(_TABLE, _BLOBS, _BLOBS.c.sha256 == _TABLE.c.blob_sha256)
    .where(_TABLE.c.module == bindparam("module"), _TABLE.c.version == bindparam("version"))
)
_ANY_BLOB = _BLOBS.alias("any_blob")  # not the one of the file
_IS_MARKED = exists().where(
    _ANY_BLOB.c.sha256 == bindparam("digest"), _ANY_BLOB.c.condemned_at.is_not(None)
)
_TENANT_ID = (
    select(TenantRow.id).where(TenantRow.name == bindparam("tenant_name")).scalar_subquery()
)
_ADD = insert(_TABLE).values(tenant_id=_TENANT_ID)


class ModuleTable:
    """The repository of stored modules."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def files(
        self, origins: Sequence[int], module: str, version: str, kind: RequestKind | None = None
    ) -> list[ModuleFile]:
        """Return the stored files of one version under some origins."""
        return files_of(origins, module, version, kind)(self._session)

    def of_version(self, module: str, version: str) -> list[ModuleFile]:
        """Return the stored files of one version under all origins."""
        rows = self._session.execute(
            select(ModuleFileRow, BlobRow.damaged)
            .outerjoin(BlobRow, BlobRow.sha256 == ModuleFileRow.blob_sha256)
            .where(ModuleFileRow.module == module, ModuleFileRow.version == version)
        )
        return [_file(row, damaged) for row, damaged in rows]

    def file(self, origin: int, module: str, version: str, kind: RequestKind) -> ModuleFile | None:
        """Return one stored file."""
        return next(iter(self.files([origin], module, version, kind)), None)

    def versions(self, origins: Sequence[int], module: str) -> list[str]:
        """Return the versions whose .info is stored under some origins."""
        rows = self._session.execute(
            select(ModuleFileRow.version)
            .where(
                ModuleFileRow.origin_id.in_(origins),
                ModuleFileRow.module == module,
                ModuleFileRow.kind == RequestKind.INFO,
            )
            .distinct()
        )
        return list(rows.scalars())

    def is_known(self, origins: Sequence[int], modules: Sequence[str]) -> bool:
        """Report whether one of the origins has ever served one of the module paths."""
        answered = select(ModuleAnswerRow.module).where(
            ModuleAnswerRow.origin_id.in_(origins),
            ModuleAnswerRow.module.in_(modules),
            ModuleAnswerRow.status == 200,
        )
        stored = select(ModuleFileRow.module).where(
            ModuleFileRow.origin_id.in_(origins), ModuleFileRow.module.in_(modules)
        )
        return any(self._session.execute(q.limit(1)).first() for q in (answered, stored))

    def is_version_known(
        self, origins: Sequence[int], modules: Sequence[str], version: str
    ) -> bool:
        """Report whether one of the origins has ever served the version of one of the paths."""
        answered = select(ModuleAnswerRow.module).where(
            ModuleAnswerRow.origin_id.in_(origins),
            ModuleAnswerRow.module.in_(modules),
            ModuleAnswerRow.query == f"={version}",
            ModuleAnswerRow.status == 200,
        )
        stored = select(ModuleFileRow.module).where(
            ModuleFileRow.origin_id.in_(origins),
            ModuleFileRow.module.in_(modules),
            ModuleFileRow.version == version,
        )
        return any(self._session.execute(q.limit(1)).first() for q in (answered, stored))

    def add(self, file: ModuleFile, tenant: str = "") -> None:
        """Record a file; its blob, if it has one, must be durable.

        Args:
            file: checked.
            tenant: the name of the one for which it was brought in; "" for nobody.

        Raises:
            IntegrityError: the file is recorded already.
        """
        self._session.execute(
            _ADD,
            {
                "origin_id": file.origin_id,
                "module": file.module,
                "version": file.version,
                "kind": file.kind,
                "sha256": file.sha256.hex,
                "size_bytes": file.size_bytes,
                "body": file.body,
                "blob_sha256": None if file.body is not None else file.sha256.hex,
                "h1": file.h1,
                "go_mod_h1": file.go_mod_h1,
                "log_state": file.log_state,
                "stored_at": file.stored_at,
                "tenant_name": tenant,
            },
        )

    def remove(self, module: str, version: str, *, origin: int | None = None) -> None:
        """Delete the rows of a version's files; blobs that no row names any more are left to gc.

        origin: under this one alone; None for all.
        """
        is_of = [ModuleFileRow.module == module, ModuleFileRow.version == version]
        if origin is not None:
            is_of.append(ModuleFileRow.origin_id == origin)
        self._session.execute(delete(ModuleFileRow).where(*is_of))

    def replace_bytes(self, file: ModuleFile) -> None:
        """Record other bytes of a file: a zip with the same h1, or a .info, which no hash pins."""
        row = self._row(file)
        row.sha256, row.body = file.sha256.hex, file.body
        row.blob_sha256 = None if file.body is not None else file.sha256.hex
        row.size_bytes, row.stored_at = file.size_bytes, file.stored_at
        self._session.flush()

    def unverified(self, after: int, limit: int) -> list[tuple[int, ModuleFile]]:
        """Return files in the state UNVERIFIED whose row's id is above after, with this id."""
        rows = self._session.execute(
            select(ModuleFileRow)
            .where(ModuleFileRow.log_state == LogState.UNVERIFIED, ModuleFileRow.id > after)
            .order_by(ModuleFileRow.id)
            .limit(limit)
        ).scalars()
        return [(row.id, _file(row, False)) for row in rows]

    def set_log_state(self, file: ModuleFile, state: LogState) -> bool:
        """Record the log's answer; return False if the row does not change. A refusal stays."""
        row = self._row(file)
        if row.log_state in (state, LogState.REFUSED):
            return False
        row.log_state = state
        self._session.flush()
        return True

    def _row(self, file: ModuleFile) -> ModuleFileRow:
        return self._session.execute(
            select(ModuleFileRow).where(
                ModuleFileRow.origin_id == file.origin_id,
                ModuleFileRow.module == file.module,
                ModuleFileRow.version == file.version,
                ModuleFileRow.kind == file.kind,
            )
        ).scalar_one()

    def of_blob(self, digest: Digest) -> list[ModuleFile]:
        """Return the files that have this blob."""
        rows = self._session.execute(
            select(ModuleFileRow, BlobRow.damaged)
            .join(BlobRow, BlobRow.sha256 == ModuleFileRow.blob_sha256)
            .where(ModuleFileRow.blob_sha256 == digest.hex)
            .order_by(ModuleFileRow.id)
        )
        return [_file(row, damaged) for row, damaged in rows]


def files_of(
    origins: Sequence[int], module: str, version: str, kind: RequestKind | None = None
) -> Lookup[list[ModuleFile]]:
    """Return the look-up of the stored files of one version under some origins."""
    values: dict[str, str | int] = {"module": module, "version": version, **_numbered(origins)}
    if kind is not None:
        values["kind"] = kind.value
    return Lookup(_files_query(len(origins), of_kind=kind is not None), values, _all_selected)


def files_and_mark(
    origin: int, module: str, version: str, digest: Digest
) -> Lookup[tuple[list[ModuleFile], bool]]:
    """Return the look-up of a version's files, and of whether a blob is known to have no mark.

    The mark is that of garbage collection; digest is of the blob. Without a stored file nothing is
    known of it.
    """
    values: dict[str, str | int] = {
        "module": module,
        "version": version,
        "digest": digest.hex,
        **_numbered([origin]),
    }
    return Lookup(_files_query(1, with_mark=True), values, _selected_with_mark)


def _numbered(origins: Sequence[int]) -> dict[str, int]:
    return {f"origin_{number}": origin for number, origin in enumerate(origins)}


@lru_cache(maxsize=256)  # made once: a statement is compiled once
def _files_query(origins: int, *, of_kind: bool = False, with_mark: bool = False) -> LookupQuery:
    names: list[BindParameter[Any]] = [bindparam(f"origin_{number}") for number in range(origins)]
    query = _FILES.where(_TABLE.c.origin_id.in_(names) if names else false())
    if of_kind:
        query = query.where(_TABLE.c.kind == bindparam("kind"))
    if with_mark:
        query = query.add_columns(_IS_MARKED)
    return LookupQuery(query)


def _all_selected(rows: list[Sequence[Any]]) -> list[ModuleFile]:
    return [_selected(row) for row in rows]


def _selected_with_mark(rows: list[Sequence[Any]]) -> tuple[list[ModuleFile], bool]:
    is_unmarked = bool(rows) and not rows[0][-1]
    return [_selected(row[:-1]) for row in rows], is_unmarked


def _selected(row: Sequence[Any]) -> ModuleFile:
    """Return the file of a row of `_FILES`."""
    origin, module, version, kind, sha256, size, at, body, h1, go_mod_h1, state, damaged, blob = row
    evicted = body is None and blob is None
    return ModuleFile(
        origin,
        module,
        version,
        RequestKind(kind),
        Digest(sha256),
        size,
        at,
        body,
        h1,
        go_mod_h1,
        LogState(state),
        bool(damaged) or evicted,
        evicted,
    )


def _file(row: ModuleFileRow, damaged: bool | None) -> ModuleFile:
    evicted = row.body is None and row.blob_sha256 is None
    return ModuleFile(
        origin_id=row.origin_id,
        module=row.module,
        version=row.version,
        kind=RequestKind(row.kind),
        sha256=Digest(row.sha256),
        size_bytes=row.size_bytes,
        stored_at=row.stored_at,
        body=row.body,
        h1=row.h1,
        go_mod_h1=row.go_mod_h1,
        log_state=LogState(row.log_state),
        damaged=bool(damaged) or evicted,
        evicted=evicted,
    )
