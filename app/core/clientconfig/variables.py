"""The go variables that belong together, in the order to set them, with the reason for a reader.

Each variable is set explicitly, also to its default: some distributions ship no go.env
(golang/go#61928), and an earlier setting must not survive. "none" is a pattern that matches no
module: with an empty variable go would read its env file, and then GOPRIVATE.
"""

from dataclasses import dataclass

from app.core.clientconfig.config import ClientConfig


@dataclass(frozen=True, slots=True)
class VariableGroup:
    """Variables that make sense only together.

    Attributes:
        why: what the variables do, one sentence for the person who pastes them.
        values: name and value, unquoted.
    """

    why: str
    values: tuple[tuple[str, str], ...]


def groups(config: ClientConfig) -> tuple[VariableGroup, ...]:
    """Return the variables of a client, GOTOOLCHAIN first.

    GOTOOLCHAIN is first, because only `go env -w GOTOOLCHAIN=x` never switches to another
    toolchain: it works in the directory of a module that needs a newer Go than the installed one.
    """
    variables = (_toolchain(config), _proxy(config), _checksums(config))
    return (*variables, SIGN_IN) if config.authenticated else variables


SIGN_IN = VariableGroup(
    "Sign in with the token in .netrc (GOAUTH: Go 1.24 and later).", (("GOAUTH", "netrc"),)
)


def _toolchain(config: ClientConfig) -> VariableGroup:
    why = "Which Go toolchain runs; one that has to be downloaded comes through Moorage."
    if config.toolchain == "local":
        why = "Run the installed Go; never download another one."
    return VariableGroup(why, (("GOTOOLCHAIN", config.toolchain),))


def _proxy(config: ClientConfig) -> VariableGroup:
    return VariableGroup(
        "Every module, private ones too, comes through Moorage and from nowhere else.",
        (("GOPROXY", config.proxy_url), ("GOPRIVATE", ""), ("GONOPROXY", "none")),
    )


def _checksums(config: ClientConfig) -> VariableGroup:
    unlisted = "none"
    if config.private_patterns and not config.sumdb_covers_private:
        unlisted = ",".join(config.private_patterns)
    return VariableGroup(
        _why_checksums(config, unlisted), (("GOSUMDB", config.sumdb), ("GONOSUMDB", unlisted))
    )


def _why_checksums(config: ClientConfig, unlisted: str) -> str:
    if config.sumdb == "off":
        return (
            "No checksum database: a module's first download is taken on trust, and only go.sum"
            " notices later changes."
        )
    log, _, url = config.sumdb.partition(" ")
    if config.sumdb_covers_private:
        return f"Checksums come from {log.partition('+')[0]}, which has the private modules, too."
    way = "" if url else ", through Moorage or else directly"
    private = "" if unlisted == "none" else "; private names never go there"
    return f"Checksums come from {log.partition('+')[0]}{way}{private}."
