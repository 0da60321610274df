"""What the comparison of Go's script tests is made of; `make test-go-scripts` runs it."""

import pytest

from tests.goscripts.__main__ import Both, differences, judge, mended_fixture


@pytest.mark.parametrize(
    ("archive", "mended"),
    [
        (b"-- .mod --\nmodule a.b/c\n-- c.go --\npackage c\n", None),
        (b"no module\n-- x --\n", None),
        (
            b"text\n-- .mod --\nmodule a.b/c\n\ngo 1.14\n-- c.go --\npackage c\n",
            b"text\n-- .mod --\nmodule a.b/c\n\ngo 1.14\n-- c.go --\npackage c\n"
            b"-- go.mod --\nmodule a.b/c\n\ngo 1.14\n",
        ),
        (
            b"-- .mod --\nmodule a.b/c\n-- go.mod --\nmodule a.b/d\n-- c.go --\n",
            b"-- .mod --\nmodule a.b/c\n-- go.mod --\nmodule a.b/c\n-- c.go --\n",
        ),
        (
            b'-- .mod --\nmodule "a.b/c"\n',
            b'-- .mod --\nmodule "a.b/c"\n-- go.mod --\nmodule "a.b/c"\n',
        ),
        (
            b"-- .mod --\nmodule a.b/c\n\n-- c.go --\npackage c",
            b"-- .mod --\nmodule a.b/c\n\n-- c.go --\npackage c\n-- go.mod --\nmodule a.b/c\n\n",
        ),
    ],
    ids=["no go.mod needed", "no .mod", "no go.mod", "another go.mod", "quotes", "no end of line"],
)
def test_a_mended_fixture_has_the_text_of_mod_in_its_zip(archive, mended):
    assert mended_fixture(archive) == (archive if mended is None else mended)


def test_a_script_that_fails_through_moorage_alone_is_a_difference(capsys):
    plain = Both({"a": "PASS", "b": "PASS", "c": "FAIL"}, {"a": "PASS", "b": "FAIL", "c": "FAIL"})
    none = Both({}, {})
    assert judge(plain, none, {}) == 1
    assert "DIFFERS: b" in capsys.readouterr().out
    assert judge(plain, none, {"b": "a reason"}) == 0
    assert judge(plain, Both({"b": "PASS"}, {"b": "PASS"}), {}) == 0
    assert judge(plain, Both({"b": "FAIL"}, {"b": "FAIL"}), {}) == 1


def test_a_known_difference_that_does_not_differ_is_out_of_date(capsys):
    plain = Both({"a": "PASS"}, {"a": "PASS"})
    assert judge(plain, Both({}, {}), {"a": "a reason", "not run": "a reason"}) == 1
    assert "OUTDATED: a" in capsys.readouterr().out


def test_each_known_difference_has_a_reason():
    assert all(differences().values())
