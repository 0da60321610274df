r"""Values written so that each kind of file or shell gives them back unchanged.

    sh_quote          POSIX sh, bash, zsh                    'it'\''s'
    powershell_quote  PowerShell 5.1 and 7, native arguments 'C:\x'
    dockerfile_quote  ENV of a Dockerfile                    "\$x"
    yaml_quote        YAML, JSON                             "a\\b"
    actions_quote, gitlab_quote, ansible_quote               YAML that a second program expands
    systemd_quote     Environment= of a unit                 "100%%"
    dotenv_quote      KEY=value files                        'a b'
    netrc_word        .netrc, which has no quoting

All take printable ASCII only: a line break ends a setting in most of these, and PowerShell reads
typographic quotes as quotes. Not here: what the values mean (`clientconfig`).
"""

import json
import re

from app.core.errors import BadInputError

_PLAIN_SH = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
# sh, systemd, dotenv libraries, `docker --env-file` and go's own env file read these characters
# alike. "~" is not one of them: sh expands it at the start of a value and after ":".
_PLAIN_DOTENV = re.compile(r"[A-Za-z0-9_./:@%+,=*?\[\]^-]*")


def _printable(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise BadInputError(f"{text!r} has a character that is not printable ASCII")
    return text


def _refuse_marks(text: str, refused: tuple[str, ...], reader: str) -> str:
    for mark in refused:
        if mark in text:
            raise BadInputError(f"{text!r} holds {mark}, which {reader} would act upon")
    return text


def sh_quote(text: str) -> str:
    r"""Return text as one word of a POSIX shell: `it's` gives `'it'\''s'`, `a/b` stays as it is.

    Raises:
        BadInputError: text has a character that is not printable ASCII.
    """
    if _PLAIN_SH.fullmatch(_printable(text)):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def powershell_quote(text: str) -> str:
    """Return text as a PowerShell string that expands nothing: `it's` gives `'it''s'`.

    Raises:
        BadInputError: text has a character that is not printable ASCII, or a double quote:
            Windows PowerShell 5.1 hands it to a program unescaped, so the argument would change.
    """
    _refuse_marks(_printable(text), ('"',), "Windows PowerShell")
    return "'" + text.replace("'", "''") + "'"


def dockerfile_quote(text: str) -> str:
    r"""Return text as the value of a Dockerfile's ENV: `a $b` gives `"a \$b"`.

    Holds with the default escape character, the backslash.

    Raises:
        BadInputError: text has a character that is not printable ASCII.
    """
    return '"' + re.sub(r'([\\"$])', r"\\\1", _printable(text)) + '"'


def yaml_quote(text: str) -> str:
    r"""Return text as a YAML double-quoted scalar, which is a JSON string: `a\b` gives `"a\\b"`.

    Raises:
        BadInputError: text has a character that is not printable ASCII.
    """
    return json.dumps(_printable(text))


def actions_quote(text: str) -> str:
    """Return text as a scalar of a GitHub Actions workflow.

    Raises:
        BadInputError: text has a character that is not printable ASCII, or "${{", which starts an
            expression whatever the quotes.
    """
    return yaml_quote(_refuse_marks(text, ("${{",), "GitHub Actions"))


def gitlab_quote(text: str) -> str:
    """Return text as a variable's value in .gitlab-ci.yml: `$a` gives `"$$a"`.

    Raises:
        BadInputError: text has a character that is not printable ASCII.
    """
    return yaml_quote(text.replace("$", "$$"))


def ansible_quote(text: str) -> str:
    """Return text as a scalar of an Ansible task.

    Raises:
        BadInputError: text has a character that is not printable ASCII, or the start of a Jinja
            expression, statement or comment.
    """
    return yaml_quote(_refuse_marks(text, ("{{", "{%", "{#"), "Ansible"))


def systemd_quote(text: str) -> str:
    r"""Return text as one item of a unit's Environment=: `a "b" 5%` gives `"a \"b\" 5%%"`.

    A "$" stays single: unlike ExecStart=, Environment= expands specifiers ("%") and no variables
    (systemd.exec(5)).

    Raises:
        BadInputError: text has a character that is not printable ASCII.
    """
    return '"' + re.sub(r'([\\"])', r"\\\1", _printable(text)).replace("%", "%%") + '"'


def dotenv_quote(text: str) -> str:
    """Return text as a value of a KEY=value file: `a/*` stays as it is, `a b` gives `'a b'`.

    Every reader understands the text without quotes. With quotes, sh, systemd's EnvironmentFile=
    and dotenv libraries understand it; `docker --env-file` and go's own env file keep the quotes.

    Raises:
        BadInputError: text has a character that is not printable ASCII, or a single quote, which
            those readers escape in different ways.
    """
    if _PLAIN_DOTENV.fullmatch(_printable(text)):
        return text
    _refuse_marks(text, ("'",), "a reader of such files")
    return f"'{text}'"


def netrc_word(text: str) -> str:
    """Return text, which is one word of a .netrc file.

    Raises:
        BadInputError: text is empty or has white space, a quote, a backslash, a "#", or a
            character that is not printable ASCII: curl and go disagree about those.
    """
    if not re.fullmatch(r"[!-~]+", text) or re.search(r"[\"'\\#]", text):
        raise BadInputError(f"{text!r} can't stand in a .netrc file, which has no quoting")
    return text
