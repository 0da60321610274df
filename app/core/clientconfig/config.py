"""The values for client settings, checked once: an instance holds values that go accepts.

The rules are those of `go help environment` and of verifier keys (golang.org/x/mod/sumdb/note);
`checks.py` has them. Not here: the variables with these values (`variables.py`).
"""

import re
from dataclasses import dataclass

from app.core.clientconfig import checks
from app.core.errors import BadInputError
from app.core.quoting import netrc_word
from app.core.tenantname import check_tenant_name

NETRC_LOGIN = "moorage"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """How the clients of one tenant reach this service.

    Attributes:
        base_url: scheme, host and port as clients see them: "https://moorage.corp.example:8443".
        tenant: the tenant's name: "acme".
        tenant_in_path: whether the URL has the tenant's name; False if the host name stands for it.
        authenticated: whether reading needs a token; then https is needed too.
        private_patterns: patterns of modules whose names no public log may learn, as in GOPRIVATE:
            ("corp.example/*",).
        sumdb: GOSUMDB: "off", or a known log's name or a verifier key, with or without a space and
            the log's URL after it.
        sumdb_covers_private: whether that log also has the private modules.
        toolchain: GOTOOLCHAIN; "local" as long as this service has no toolchain modules.
        token_name: the variable or secret that holds the token: "MOORAGE_TOKEN".

    Raises:
        BadInputError: a value is malformed, or two contradict each other; the message says which.
    """

    base_url: str
    tenant: str
    tenant_in_path: bool = True
    authenticated: bool = False
    private_patterns: tuple[str, ...] = ()
    sumdb: str = "sum.golang.org"
    sumdb_covers_private: bool = False
    toolchain: str = "local"
    token_name: str = "MOORAGE_TOKEN"  # noqa: S105 - the name of a variable

    def __post_init__(self) -> None:
        scheme, _ = checks.origin(self.base_url)
        check_tenant_name(self.tenant)
        for pattern in self.private_patterns:
            checks.pattern(pattern)
        checks.sumdb(self.sumdb)
        checks.toolchain(self.toolchain)
        if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", self.token_name):
            raise BadInputError(f"{self.token_name!r} is not a variable's name like MOORAGE_TOKEN")
        if self.authenticated and scheme != "https":
            raise BadInputError(
                f"tenant {self.tenant} asks for a token, and go never sends credentials over http:"
                f" give clients an https address instead of {self.base_url}"
            )
        if self.sumdb == "off" and self.toolchain != "local":
            raise BadInputError(
                f"GOTOOLCHAIN={self.toolchain} needs a checksum database: with GOSUMDB=off go"
                " refuses to start a downloaded toolchain"
            )

        if self.sumdb_covers_private and self.sumdb.split(" ")[0] in checks.PUBLIC_LOGS:
            raise BadInputError(f"{self.sumdb} is public and can't have private modules")

    @property
    def proxy_url(self) -> str:
        """The tenant's GOPROXY entry: "https://moorage.corp.example:8443/goproxy/acme"."""
        scheme, host = checks.origin(self.base_url)
        path = f"/goproxy/{self.tenant}" if self.tenant_in_path else "/goproxy"
        return f"{scheme}://{host}{path}"

    @property
    def netrc_entry(self) -> str:
        """The .netrc line up to the token, with the space before it.

        "machine moorage.corp.example:8443 login moorage password ". go compares the machine with
        host and port (golang/go#81253), and needs a login with every password (golang/go#40215);
        Moorage ignores the login.
        """
        _, host = checks.origin(self.base_url)
        return f"machine {netrc_word(host)} login {NETRC_LOGIN} password "
