"""`moorage config`, and what all commands print and end with."""

import base64
import io
import json
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from app.cli import output
from app.cli.config import SECRET, config
from app.cli.output import Exit
from app.core.digest import Digest
from app.core.errors import BadInputError, MoorageError, SettingsError, UnknownError
from app.settings import reference

CANARY = "hunter2-canary"
DATABASE = f"postgresql+psycopg://m:{CANARY}@db/m"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    for setting in reference.all_settings():
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.setenv("MOORAGE_DATA_DIR", str(tmp_path))


def run(*arguments: str, **environ: str):
    return CliRunner().invoke(config, list(arguments), env=environ)


def toml_file(tmp_path: Path) -> str:
    path = tmp_path / "m.toml"
    path.write_text("port = 8081\n[storage]\nscrub_days = 7\n")
    return str(path)


def test_check_says_valid_and_names_the_sources(tmp_path):
    path = toml_file(tmp_path)
    result = run("check", MOORAGE_CONFIG=path, MOORAGE_HOST="::1")
    rest = len(reference.all_settings()) - 4
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert result.stdout == (
        f"settings are valid\n  environment: 2\n  {path}: 2\n  defaults: {rest}\n"
    )


def test_check_has_json(tmp_path):
    path = toml_file(tmp_path)
    result = run("check", "--json", MOORAGE_CONFIG=path)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "valid": True,
        "warnings": [],
        "sources": [
            {"source": "env", "path": None, "settings": 1},
            {"source": "file", "path": path, "settings": 2},
            {"source": "default", "path": None, "settings": len(reference.all_settings()) - 3},
        ],
    }


@pytest.mark.parametrize("command", ["check", "show"])
def test_F101_problems_go_to_stderr_one_per_line_and_end_with_2(command):
    result = run(command, MOORAGE_PORT="x", MOORAGE_POTR="1")
    assert result.exit_code == 2
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first == "moorage: MOORAGE_POTR: unknown setting; did you mean MOORAGE_PORT?"
    assert second.startswith("moorage: MOORAGE_PORT: it is not a whole number; give")


def test_F101_problems_have_json_too():
    result = run("check", "--json", MOORAGE_POTR="1")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "valid": False,
        "problems": ["MOORAGE_POTR: unknown setting; did you mean MOORAGE_PORT?"],
    }


def test_show_is_toml_with_the_origin_behind_each_value(tmp_path):
    path = toml_file(tmp_path)
    result = run("show", MOORAGE_CONFIG=path, MOORAGE_RELEASES__SELECT__MINORS="3")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f'data_dir = "{tmp_path}"  # env MOORAGE_DATA_DIR'
    assert lines[1] == "# database_url is not set  # default"
    assert f"port = 8081  # file {path}" in lines
    assert "minors = 3  # env MOORAGE_RELEASES__SELECT__MINORS" in lines
    assert 'files_urls = ["https://dl.google.com/go/"]  # default' in lines
    parsed = tomllib.loads(result.stdout)
    assert parsed["storage"]["scrub_days"] == 7
    assert parsed["releases"]["select"]["os"] == ["linux", "darwin", "windows"]


def test_what_show_prints_can_be_the_toml_file(tmp_path):
    shown = run("show", MOORAGE_RELEASES__SELECT__PINS='["1.21"]').stdout
    path = tmp_path / "shown.toml"
    path.write_text(shown)
    again = run("show", "--json", MOORAGE_CONFIG=str(path))
    before = run("show", "--json", MOORAGE_RELEASES__SELECT__PINS='["1.21"]')

    def values(text: str) -> dict[str, object]:
        return {row["name"]: row["value"] for row in json.loads(text)["settings"]}

    assert values(again.stdout) == values(before.stdout)


def test_show_has_json_with_every_setting():
    rows = json.loads(run("show", "--json", MOORAGE_PORT="81").stdout)["settings"]
    assert [row["name"] for row in rows] == [s.name for s in reference.all_settings()]
    assert {
        "name": "port",
        "variable": "MOORAGE_PORT",
        "value": 81,
        "source": "env",
        "from": "MOORAGE_PORT",
        "meaning": "TCP port of the listener. 0: any free one.",
    } in rows


@pytest.mark.parametrize("options", [["show"], ["show", "--json"], ["check"], ["check", "--json"]])
def test_a_secret_is_never_printed(options, tmp_path):
    secret = tmp_path / "db"
    secret.write_text(DATABASE)
    secret.chmod(0o600)
    environments = ({"MOORAGE_DATABASE_URL": DATABASE}, {"MOORAGE_DATABASE_URL_FILE": str(secret)})
    key = base64.b64encode(b"k" * 32).decode()
    for environ in environments:
        result = run(*options, MOORAGE_SECRETS_KEY=key, **environ)
        assert result.exit_code == 0, result.output
        assert CANARY not in result.output
        if options == ["show"]:
            assert f'database_url = "{SECRET}"' in result.stdout


@pytest.mark.parametrize(
    "arguments", [["check", "--jsn"], ["chek"], ["check", "extra"], ["show", "-x"]]
)
def test_wrong_usage_ends_with_2(arguments):
    assert run(*arguments).exit_code == 2


def test_the_commands_can_be_mounted_as_a_noun():
    program = typer.Typer()
    program.add_typer(config)
    result = CliRunner().invoke(program, ["config", "check"])
    assert result.exit_code == 0, result.output


@dataclass(frozen=True)
class Shown:
    digest: Digest
    path: Path
    at: datetime
    names: frozenset[str]


def test_json_has_a_form_for_what_services_return():
    at = datetime(2026, 11, 23, tzinfo=UTC)
    shown = Shown(Digest("0" * 64), Path("/a"), at, frozenset({"b", "a"}))
    assert json.loads(output.as_json_text([shown])) == [
        {
            "digest": "0" * 64,
            "path": "/a",
            "at": "2026-11-23T00:00:00+00:00",
            "names": ["a", "b"],
        }
    ]
    with pytest.raises(TypeError, match="object has no JSON form"):
        output.as_json_text(object())


ROWS = [("go1.27.3.linux-amd64.tar.gz", 70, None), ("x" * 300, 7, "[red]\x1b[31m\nnext")]


def test_a_table_without_a_terminal_has_a_whole_row_on_each_line(capsys):
    output.emit(ROWS, False, lambda rows: output.table(("file", "size", "note"), rows))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["file", "size", "note"]
    assert lines[1].split() == ["go1.27.3.linux-amd64.tar.gz", "70"]
    assert lines[2].split() == ["x" * 300, "7", "[red]\\x1b[31m\\nnext"]
    assert all(line == line.rstrip() and line.isprintable() for line in lines)


def test_an_empty_table_has_its_head(capsys):
    output.emit([], False, lambda rows: output.table(("file", "size"), rows))
    assert capsys.readouterr().out == "file  size\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "has_codes"),
    [
        (Terminal(), {"TERM": "xterm-256color"}, True),
        (Terminal(), {"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        (io.StringIO(), {"TERM": "xterm-256color", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_without_no_color(stream, environ, has_codes, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    output.console(stream).print("done", style="red")
    assert ("\x1b[31m" in stream.getvalue()) == has_codes
    assert "done" in stream.getvalue()


def test_F102_a_complaint_is_printable_and_each_line_is_marked(capsys):
    output.complain("first\x1b[31m\nsecond")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "moorage: first\\x1b[31m\nmoorage: second\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), Exit.BAD_USAGE),
        (BadInputError("x"), Exit.BAD_USAGE),
        (UnknownError("x"), Exit.FAILED),
        (MoorageError("x"), Exit.FAILED),
    ],
)
def test_the_exit_code_says_whether_the_usage_was_wrong(error, code):
    assert output.exit_for(error) is code
