"""A group of commands: suggestions for wrong words, and help without types of flags."""

import re
from typing import Any

import typer
from typer.core import TyperGroup

from app.cli.interrupt import exit_code
from app.cli.output import complain

# What people write who know other programs, and what it may be called here.
_OTHER_WORDS = {
    "add": ("create", "set"),
    "create": ("add", "set"),
    "delete": ("remove", "revoke"),
    "edit": ("update", "set"),
    "get": ("show", "list"),
    "ls": ("list",),
    "new": ("create", "add", "set"),
    "rm": ("remove", "revoke"),
}
_OTHER_VALUES = {
    "bash": "sh",
    "docker": "dockerfile",
    "github": "github-actions",
    "pwsh": "powershell",
    "zsh": "sh",
}
_NO_CHOICE = re.compile(r"'(?P<value>[^']*)' is not one of (?P<choices>.*'\.)", re.DOTALL)


class Group(TyperGroup):
    """A group whose commands, options and choices are suggested if a word is wrong."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the group's own options."""
        return _without_types_of_flags(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and not isinstance(command, Group):
            _without_types_of_flags(command.get_params(ctx))
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments begin with."""
        name = args[0]
        for other in _OTHER_WORDS.get(name, ()):
            if name not in self.commands and other in self.commands:
                ctx.fail(f"No such command '{name}'. Did you mean '{other}'?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _with_suggestion(error.message)
            raise
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(exit_code()) from None


def _without_types_of_flags(params: list[Any]) -> list[Any]:
    """Return params; the help says "--json", not "--json <bool>"."""
    for param in params:
        if getattr(param, "is_bool_flag", False):
            param.metavar = ""
    return params


def _with_suggestion(message: str) -> str:
    message = message.removeprefix("Value error, ")
    match = _NO_CHOICE.fullmatch(message)
    meant = _OTHER_VALUES.get(match["value"].lower()) if match else None
    if match is None or meant is None or f"'{meant}'" not in match["choices"]:
        return message
    return f"{message} Did you mean '{meant}'?"
