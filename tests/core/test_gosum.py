"""go.sum files: read as `go` reads them, and refused with the line where `go` would stop."""

import pytest

from app.core.errors import BadInputError
from app.core.gosum import GoSumEntry, format_go_sum, parse_go_sum
from app.core.record import Sums

# The lines of rsc.io/quote v1.5.2: https://sum.golang.org/lookup/rsc.io/quote@v1.5.2
QUOTE = "rsc.io/quote v1.5.2 h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y=\n"
QUOTE_MOD = "rsc.io/quote v1.5.2/go.mod h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=\n"
ONLY_MOD = "rsc.io/x v1.0.0/go.mod h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=\n"
ZIP_H1, MOD_H1 = QUOTE.split()[2], QUOTE_MOD.split()[2]
WHOLE = GoSumEntry("rsc.io/quote", "v1.5.2", ZIP_H1, MOD_H1)


@pytest.mark.parametrize(
    "text",
    [
        QUOTE + QUOTE_MOD,
        QUOTE_MOD + QUOTE,
        (QUOTE + QUOTE_MOD).replace("\n", "\r\n"),
        f"\n{QUOTE}\n  \n{QUOTE_MOD}\n",
        QUOTE + QUOTE_MOD + QUOTE,
        (QUOTE + QUOTE_MOD).removesuffix("\n"),
        (QUOTE + QUOTE_MOD).replace(" ", " \t"),
    ],
)
def test_the_two_lines_of_a_version_are_one_however_they_are_written(text: str) -> None:
    assert parse_go_sum(text) == (WHOLE,)


def test_a_version_may_have_its_go_mod_alone_and_is_written_as_it_was_read() -> None:
    sums = parse_go_sum(ONLY_MOD + QUOTE)
    assert sums == (
        GoSumEntry("rsc.io/x", "v1.0.0", "", MOD_H1),
        GoSumEntry("rsc.io/quote", "v1.5.2", ZIP_H1, ""),
    )
    assert format_go_sum(sums) == ONLY_MOD + QUOTE
    assert parse_go_sum("") == ()


def test_only_what_the_file_has_is_compared_with_a_record() -> None:
    right = Sums(ZIP_H1, MOD_H1)
    for one in (*parse_go_sum(QUOTE), *parse_go_sum(QUOTE_MOD), WHOLE):
        assert not one.contradicts(right)
    assert WHOLE.contradicts(Sums(MOD_H1, MOD_H1))
    assert WHOLE.contradicts(Sums(ZIP_H1, ZIP_H1))
    assert not parse_go_sum(QUOTE)[0].contradicts(Sums(ZIP_H1, ZIP_H1))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("rsc.io/quote v1.5.2", "module"),
        (QUOTE.strip() + " more", "module"),
        ("rsc.io/quote v1.5 h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y=", "canonical"),
        ("rsc.io/quote master h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y=", "canonical"),
        ("rsc.io/quote v1.5.2 h2:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y=", "h1"),
        ("rsc.io/quote v1.5.2 h1:short", "h1"),
        ("UPPER v1.5.2 h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y=", "UPPER"),
        (QUOTE.replace(ZIP_H1, MOD_H1).strip(), "an earlier line has another h1"),
        ("a\x00b v1 h1:x", "control"),
        ("\ud800", "Unicode"),
    ],
)
def test_a_line_that_is_none_is_refused_with_its_number(line: str, why: str) -> None:
    with pytest.raises(BadInputError, match=r"^go\.sum, line 3: ") as caught:
        parse_go_sum(f"{QUOTE}{QUOTE_MOD}{line}\n")
    assert why in str(caught.value)
