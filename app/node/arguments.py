"""The command line's options; `--help` shows all of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import VERSION
from .run import add_parsers
from .service import add_parser
from .snapshot import KEPT
from .verify import DEFAULT, FULL, QUICK


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--root", type=Path, default=None, help="default: /opt/go as root")
    common.add_argument("--json", action="store_true", help="one JSON object on stdout")
    network = argparse.ArgumentParser(add_help=False)
    network.add_argument(
        "--server", action="append", default=[], metavar="URL", help="repeat it for more servers"
    )
    network.add_argument("--ca", default="", metavar="FILE", help="more certificate authorities")
    network.add_argument("--limit", default="", metavar="RATE", help="bytes a second: 500K, 20M")
    network.add_argument("--idle", type=float, default=30.0, metavar="S", help="seconds (30)")
    network.add_argument("--deadline", type=float, default=1800.0, metavar="S", help="a file's")
    network.add_argument("--form", choices=("auto", "zst", "tar.gz"), default="auto")
    bring = argparse.ArgumentParser(add_help=False)
    bring.add_argument("--smoke", choices=("full", "version", "none"), default="full")
    bring.add_argument("--keep", type=int, default=KEPT, metavar="N", help="snapshots to keep (3)")
    bring.add_argument("--link", default="", metavar="PATH", help="also a link, as /usr/local/go")
    bring.add_argument(
        "--gpg", type=Path, default=None, metavar="KEYRING", help="keys that signed the .tar.gz"
    )
    pin = argparse.ArgumentParser(add_help=False)
    pin.add_argument("--vkey", default="", help="pin this key: only its manifests count")
    pin.add_argument("--channel", default="", help="the channel to follow")

    whole = argparse.ArgumentParser(prog="moorage-node", description="Go releases on one machine.")
    whole.add_argument("--version", action="version", version=f"moorage-node {VERSION}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[common, *parents])

    one = command("enroll", "exchange an enrolment token for this node's own", network)
    one.add_argument("--token-file", default="-", help="file with the token; - is stdin")
    one.add_argument("--name", default="", help="proposed name (the host name)")
    one.add_argument("--link", default="", metavar="PATH", help="also a link, as /usr/local/go")
    command("update", "ask the server, and do what it orders", network, bring)
    one = command("install", "install a release and make it current", network, bring, pin)
    one.add_argument("release", metavar="VERSION")
    one.add_argument("--platform", default="", help="linux-amd64; default: this machine's")
    one = command("verify", "compare a snapshot with its tree")
    one.add_argument("release", metavar="VERSION", nargs="?", default="")
    level = one.add_mutually_exclusive_group()
    level.add_argument("--quick", dest="level", action="store_const", const=QUICK, default=DEFAULT)
    level.add_argument("--full", dest="level", action="store_const", const=FULL)
    one = command("repair", "restore what differs", network)
    one.add_argument("release", metavar="VERSION", nargs="?", default="")
    one = command("rollback", "go back to another good snapshot, without network")
    one.add_argument("release", metavar="VERSION", nargs="?", default="")
    command("status", "show what this node knows")
    command("list", "list the snapshots")
    one = command("prune", "remove old snapshots")
    one.add_argument("--keep", type=int, default=KEPT, metavar="N", help="snapshots to keep (3)")
    add_parsers(command)
    add_parser(command, network, bring)
    command("uninstall", "remove service, sandbox, all snapshots, the links and the state")
    return whole
