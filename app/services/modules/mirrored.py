"""Answering what `go` asks of golang.org/toolchain where it comes from the mirror's own archives.

How a toolchain's files are derived from an archive is `toolchains`' business.
"""

from app.core.errors import DeniedError, UnknownError, UpstreamError
from app.core.goproxy import GoproxyRequest, RequestKind, render_list
from app.core.toolchain import MODULE_PATH
from app.services.authorization import Permission
from app.services.modules.caller import Resolved, allowed
from app.services.modules.toolchains import Toolchains, instead
from app.services.modules.troubles import for_client

_CHANGING_S = 60.0
_MIRROR = "the mirror of Go releases"  # stands for the route in messages


class MirroredToolchains:
    """The module golang.org/toolchain of tenants that have no route of their own for it."""

    def __init__(self, toolchains: Toolchains) -> None:
        self._toolchains = toolchains

    async def answer(
        self, request: GoproxyRequest, permission: Permission, client: str
    ) -> Resolved:
        """Return the answer to a request for golang.org/toolchain.

        Args:
            request: for that module.
            permission: of the caller.
            client: the address that asks.

        Raises:
            DeniedError: policy says no; the message names a release that it allows.
            UnknownError: the mirror offers no such version.
            UpstreamError: the archive can't be had now.
        """
        try:
            return await self._answer(request, permission, client)
        except UpstreamError as error:
            raise for_client(error, _MIRROR, str(request)) from error

    async def _answer(
        self, request: GoproxyRequest, permission: Permission, client: str
    ) -> Resolved:
        decision = allowed(permission.decide(None))
        offered = await self._toolchains.versions(request.version)
        versions = [v for v in offered if permission.decide(v).allowed]
        if request.kind is RequestKind.LIST:
            return Resolved(
                version="",
                decided_by=decision.by,
                body=render_list(versions),
                fresh_s=_CHANGING_S,
            )
        if request.kind is RequestKind.LATEST or request.is_query:
            raise UnknownError(f"{MODULE_PATH} has versions only; see its list")
        version = request.version
        decision = permission.decide(version)
        if not decision.allowed:
            release = instead(versions, version, preferred=permission.instead)
            advice = ""
            if release:
                advice = f"; use {release}: GOTOOLCHAIN={release}"
            elif permission.instead:
                advice = f"; its release is {permission.instead}"
            raise DeniedError(decision.reason + advice, decision.by)
        if request.kind is RequestKind.ZIP:
            file = await self._toolchains.zip(version, client=client)
            return Resolved(version=version, decided_by=decision.by, file=file)
        is_info = request.kind is RequestKind.INFO
        text = self._toolchains.info(version) if is_info else self._toolchains.go_mod(version)
        return Resolved(
            version=version, decided_by=decision.by, body=await text, fresh_s=_CHANGING_S
        )

    async def h1(self, version: str, client: str) -> str:
        """Return the h1 of a version's zip; client is the address that asks.

        Raises:
            MoorageError: as `answer`.
        """
        try:
            return await self._toolchains.h1(version, client=client)
        except UpstreamError as error:
            raise for_client(error, _MIRROR, f"{MODULE_PATH}@{version}") from error
