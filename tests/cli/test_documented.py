"""The pages: every command of `moorage` in them exists, with the options that they give it."""

import re
from pathlib import Path
from typing import Any

import pytest

from app.cli.program import commands
from tests.test_docs import PAGES, ROOT

CODE = re.compile(r"```.*?```|`[^`]+`", re.DOTALL)
CALL = re.compile(
    r"(?:^|(?<=`)|[$#;&|] |exec moorage | -- |bin/)moorage ([a-z](?:\\\n|[^\n`#;|&)])*)",
    re.MULTILINE,
)
"""`moorage` where a shell has a command, up to the end of the line, the code or the command."""
FIRST_LINES = {"channel 1", "inclusion proof v1"}
"""Of files: "moorage channel 1" begins a manifest."""


def calls(page_text: str) -> list[list[str]]:
    """Return the words behind each `moorage` in the code of a page."""
    return [
        call.replace("\\\n", " ").split()
        for code in CODE.findall(page_text)
        for call in CALL.findall(code)
        if call.strip() not in FIRST_LINES
    ]


def problem(words: list[str]) -> str | None:
    """Return what the program does not have; None if it has all of it."""
    command: Any = commands()
    options = {"--help", "--version"}
    for word in words:
        bare = word.strip("[]'\",.…")
        if bare.startswith("--"):
            if bare.partition("=")[0] not in options | _options(command):
                return f"no option {bare}"
        elif hasattr(command, "commands"):
            if not re.fullmatch(r"[a-z-]+", bare):
                break  # "moorage tenant …", or the prose of a comment
            if bare not in command.commands:
                return f"no command {bare}"
            command = command.commands[bare]
    return None


def _options(command: Any) -> set[str]:
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "CHANGELOG.md"],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_command_of_a_page_exists(page: Path) -> None:
    wrong = {" ".join(words): problem(words) for words in calls(page.read_text())}
    assert {call: what for call, what in wrong.items() if what is not None} == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("`moorage gc --dry-run`", None),
        ("`moorage gc --dry-runs`", "no option --dry-runs"),
        ("```console\n$ moorage backups list\n```", "no command backups"),
        (
            "```console\n$ kubectl exec deployment/moorage -- moorage secrets turn\n```",
            "no command turn",
        ),
        ("```sh\nmoorage token create \\\n    --platforms\n```", "no option --platforms"),
    ],
)
def test_a_command_that_the_program_lacks_is_noticed(text: str, what: str | None) -> None:
    assert [problem(words) for words in calls(text)] == [what]


def test_many_commands_are_looked_at() -> None:
    assert sum(len(calls(page.read_text())) for page in PAGES) > 200
