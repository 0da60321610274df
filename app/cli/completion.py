"""`moorage completion`: what a shell needs to complete commands and options."""

import os
from enum import StrEnum
from typing import Annotated

import typer

from app.cli.session import Anywhere

_VARIABLE = "_MOORAGE_COMPLETE"


class Shell(StrEnum):
    """The shells that can be told how to complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# The shell runs the command with the line so far in variables that typer reads.
_SCRIPTS = {
    Shell.BASH: f"""\
_moorage() {{
    local IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS="${{COMP_WORDS[*]}}" COMP_CWORD=$COMP_CWORD \\
        {_VARIABLE}=complete_bash moorage))
}}
complete -o default -F _moorage moorage""",
    Shell.ZSH: f"""\
_moorage() {{
    eval "$(_TYPER_COMPLETE_ARGS="${{words[1,$CURRENT]}}" {_VARIABLE}=complete_zsh moorage)"
}}
compdef _moorage moorage""",
    Shell.FISH: f"""\
function __moorage_words
    env _TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS=(commandline -cp) \\
        {_VARIABLE}=complete_fish moorage
end
complete --command moorage --no-files --arguments '(__moorage_words)'""",
}


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish")], _anywhere: Anywhere = None
) -> None:
    """Print a script for the shell's start: `eval "$(moorage completion bash)"`."""
    print(_SCRIPTS[shell])


def prepare() -> None:
    """Make the shells known, if one of them asks this process what it can complete."""
    if _VARIABLE in os.environ:
        from typer.completion import get_completion_inspect_parameters

        get_completion_inspect_parameters()
