"""Each quoting against what reads it: a real sh, PyYAML, and readers made from the manuals."""

import json
import re
import subprocess
from collections.abc import Callable

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.core import quoting
from app.core.errors import BadInputError

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
ALL = "".join(map(chr, range(0x20, 0x7F)))
QUOTINGS = (
    quoting.sh_quote,
    quoting.powershell_quote,
    quoting.dockerfile_quote,
    quoting.yaml_quote,
    quoting.actions_quote,
    quoting.gitlab_quote,
    quoting.ansible_quote,
    quoting.systemd_quote,
    quoting.dotenv_quote,
)


@pytest.mark.parametrize("quote", [*QUOTINGS, quoting.netrc_word])
@pytest.mark.parametrize("char", ["\n", "\r", "\0", "\t", "\x1b", "\x7f", "é", "\u2019", "\u2028"])
def test_only_printable_ascii_is_quoted(quote: Callable[[str], str], char: str) -> None:
    for text in (char, f"a{char}", f"{char}a", f"a{char}b"):
        with pytest.raises(BadInputError):
            quote(text)


@pytest.mark.parametrize(
    ("quote", "text", "written"),
    [
        (quoting.sh_quote, "a/b", "a/b"),
        (quoting.sh_quote, "", "''"),
        (quoting.sh_quote, "it's", "'it'\\''s'"),
        (quoting.sh_quote, "~", "'~'"),
        # about_Quoting_Rules: in a single-quoted string nothing is expanded, '' is one quote.
        (quoting.powershell_quote, "it's $(x) `n", "'it''s $(x) `n'"),
        (quoting.dockerfile_quote, 'a $b "c" \\', '"a \\$b \\"c\\" \\\\"'),
        (quoting.yaml_quote, 'a\\"', '"a\\\\\\""'),
        (quoting.gitlab_quote, "$a", '"$$a"'),
        (quoting.systemd_quote, '5% "$x" \\', '"5%% \\"$x\\" \\\\"'),
        (quoting.dotenv_quote, "corp.example/*,a[^b]?", "corp.example/*,a[^b]?"),
        (quoting.dotenv_quote, "", ""),
        (quoting.dotenv_quote, "a b", "'a b'"),
        (quoting.dotenv_quote, "~/a", "'~/a'"),
        (quoting.netrc_word, "[::1]:8443", "[::1]:8443"),
    ],
)
def test_the_form_is_the_documented_one(
    quote: Callable[[str], str], text: str, written: str
) -> None:
    assert quote(text) == written


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        (quoting.powershell_quote, 'a"b'),
        (quoting.actions_quote, "${{ secrets.X }}"),
        (quoting.ansible_quote, "{{ x }}"),
        (quoting.ansible_quote, "{% x %}"),
        (quoting.ansible_quote, "{# x #}"),
        (quoting.dotenv_quote, "it's"),
        (quoting.netrc_word, ""),
        (quoting.netrc_word, "a b"),
        (quoting.netrc_word, "#a"),
        (quoting.netrc_word, 'a"'),
        (quoting.netrc_word, "a\\"),
    ],
)
def test_what_a_reader_would_act_upon_is_refused(quote: Callable[[str], str], text: str) -> None:
    with pytest.raises(BadInputError):
        quote(text)


@settings(max_examples=60)
@given(st.lists(PRINTABLE, min_size=1, max_size=8))
@example([ALL, "", "-n", "~", "*"])
def test_a_real_sh_gives_every_word_back(words: list[str]) -> None:
    script = "printf '%s\\n' " + " ".join(map(quoting.sh_quote, words))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == words


@settings(max_examples=60)
@given(PRINTABLE.filter(lambda text: "'" not in text))
@example(ALL.replace("'", ""))
@example("~:~/x")
def test_a_real_sh_reads_every_dotenv_value_back(value: str) -> None:
    script = f'X={quoting.dotenv_quote(value)}\nprintf %s "$X"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == value


@given(PRINTABLE)
@example(ALL)
def test_yaml_reads_every_value_back(value: str) -> None:
    assert yaml.safe_load(f"a: {quoting.yaml_quote(value)}") == {"a": value}
    assert json.loads(quoting.yaml_quote(value)) == value


@given(PRINTABLE)
def test_gitlab_expands_every_value_back(value: str) -> None:
    read = yaml.safe_load(quoting.gitlab_quote(value))
    assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", read)
    assert read.replace("$$", "$") == value


@given(PRINTABLE)
@example(ALL)
def test_a_dockerfile_reads_every_value_back(value: str) -> None:
    """Inside double quotes a backslash escapes a backslash, a quote and a dollar (shell/lex.go)."""
    written = quoting.dockerfile_quote(value)
    inner = re.fullmatch(r'"((?:\\[\\"$]|[^\\"$])*)"', written)
    assert inner is not None
    assert re.sub(r"\\(.)", r"\1", inner[1]) == value


@given(PRINTABLE)
@example(ALL)
def test_systemd_reads_every_value_back(value: str) -> None:
    """systemd.syntax(7), Quoting, then systemd.unit(5), Specifiers."""
    inner = re.fullmatch(r'"((?:\\[\\"]|[^\\"])*)"', quoting.systemd_quote(value))
    assert inner is not None
    unescaped = re.sub(r"\\(.)", r"\1", inner[1])
    assert not re.search("%[^%]", unescaped.replace("%%", ""))
    assert unescaped.replace("%%", "%") == value


@given(PRINTABLE.filter(lambda text: '"' not in text))
def test_a_powershell_string_ends_where_it_should(value: str) -> None:
    inner = re.fullmatch(r"'((?:''|[^'])*)'", quoting.powershell_quote(value))
    assert inner is not None
    assert inner[1].replace("''", "'") == value
