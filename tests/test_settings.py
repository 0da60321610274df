"""Settings: names, defaults, sources, and everything that must stop the start."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.core.errors import SettingsError
from app.settings import Settings, load, load_settings, reference
from app.settings.files import is_handed_over
from app.settings.sections.modules import SUM_GOLANG_ORG
from app.upstream.address import AllowedNetwork
from app.upstream.url import Url

KEY = "EB4C1BFD4F042F6DDDCCEC917721F63BD38B4796"
CANARY = "hunter2-canary"

DEFAULTS = {
    "data_dir": Path("data"),
    "database_url": None,
    "secrets_key": None,
    "secrets_key_before": None,
    "public_url": None,
    "host": "127.0.0.1",
    "port": 8080,
    "workers": 1,
    "log_level": "info",
    "log_format": "auto",
    "drain_s": 5,
    "shutdown_s": 30,
    "releases.index_url": "https://go.dev/dl/",
    "releases.files_urls": ("https://dl.google.com/go/",),
    "releases.keyring": None,
    "releases.keyring_url": "https://dl.google.com/linux/linux_signing_key.pub",
    "releases.pinned_fingerprints": (KEY,),
    "releases.sha256_only": ("zip", "msi", "pkg"),
    "releases.select.stable_only": True,
    "releases.select.minors": 2,
    "releases.select.patches": 1,
    "releases.select.os": ("linux", "darwin", "windows"),
    "releases.select.arch": ("amd64", "arm64"),
    "releases.select.kinds": ("archive", "source"),
    "releases.select.pins": (),
    "releases.select.on_demand": True,
    "releases.images_need_token": False,
    "releases.own_keyring": None,
    "releases.own_fingerprints": (),
    "releases.zstd.enabled": True,
    "releases.zstd.level": 19,
    "releases.zstd.niceness": 19,
    "releases.refresh_s": 3600,
    "releases.sync_s": 0,
    "releases.retry_failed_s": 30,
    "releases.parallel": 4,
    "releases.archive_deadline_s": 900,
    "modules.max_age_s": 3600,
    "modules.upstream": "https://proxy.golang.org",
    "modules.redirect_to": (),
    "git.repository_bytes": 2 << 30,
    "git.mirrors_bytes": 50 << 30,
    "sumdb.upstreams": (SUM_GOLANG_ORG,),
    "sumdb.log_name": "moorage.internal/{tenant}",
    "fleet.check_s": 60,
    "otel.endpoint": None,
    "otel.sample": 0.01,
    "network.allow": (),
    "network.tenant_hosts": (),
    "network.gateways": (),
    "network.ca_file": None,
    "retention.unused_days": 0,
    "retention.max_age_days": 0,
    "retention.versions": 0,
    "retention.max_bytes": 0,
    "retention.releases": False,
    "retention.gc_hours": 0,
    "backup.url": None,
    "database.outage_s": 60,
    "storage.url": "file:",
    "storage.cache_bytes": 20 << 30,
    "storage.redirect": False,
    "storage.s3.endpoint": None,
    "storage.s3.region": None,
    "storage.s3.access_key": None,
    "storage.s3.secret_key": None,
    "database.connect_s": 3,
    "database.lock_s": 5,
    "database.statement_s": 15,
    "database.idle_s": 10,
    "storage.min_free_percent": 5.0,
    "storage.scrub_days": 30,
    "tls.cert_file": None,
    "tls.key_file": None,
    "tls.client_ca_file": None,
    "metrics.port": None,
    "metrics.host": None,
    "limits.streams": 1000,
    "limits.tenant_streams": 64,
    "limits.stream_wait_s": 90,
    "limits.fetches": 1024,
    "limits.admin_token_rate": 50,
    "limits.admin_address_rate": 100,
    "limits.connections": 16_384,
    "limits.address_connections": 4096,
    "limits.tenant_cold": 8,
    "limits.tenant_rate": 500,
    "limits.bad_tokens": 100,
    "limits.header_s": 10,
    "limits.body_s": 30,
    "limits.send_s": 60,
    "limits.waiters_per_key": 1000,
    "limits.cold_queue": 4096,
    "limits.memory_bytes": 134217728,
    "limits.cold_wait_s": 60,
    "limits.url_bytes": 2048,
    "limits.header_bytes": 16384,
    "limits.headers": 100,
    "limits.admin_body_bytes": 1048576,
}


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return str(caught.value).splitlines()


def problem(environ: dict[str, str]) -> str:
    (only,) = problems(environ)
    return only


def written(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_every_setting_has_the_name_and_the_default_of_the_contract():
    assert {s.name: s.default for s in reference.all_settings()} == DEFAULTS


@pytest.mark.parametrize("setting", reference.all_settings(), ids=lambda s: s.name)
def test_every_setting_says_its_meaning_and_unit(setting):
    assert setting.meaning.endswith(".")
    assert setting.form
    for suffix, unit in (("_s", "Seconds"), ("_bytes", "Bytes"), ("_percent", "Percent")):
        if setting.name.endswith(suffix):
            assert setting.meaning.startswith(unit)


def test_the_documentation_is_what_the_models_say():
    printed = subprocess.run(
        [sys.executable, "-m", "app.settings"], capture_output=True, check=True
    ).stdout.decode()
    page = Path(__file__).parent.parent / "docs" / "settings.md"
    assert page.read_text() == printed == reference.markdown()
    assert all(f"`{setting.variable}`" in printed for setting in reference.all_settings())


def test_the_process_environment_is_read_only_when_none_is_given(monkeypatch):
    monkeypatch.setenv("MOORAGE_PORT", "8081")
    assert load_settings().port == 8081
    assert load_settings({}).port == 8080
    assert Settings().port == 8080


def test_variables_nest_and_lists_are_json():
    settings = load_settings(
        {
            "MOORAGE_RELEASES__SELECT__MINORS": "3",
            "MOORAGE_RELEASES__SELECT__ON_DEMAND": "false",
            "MOORAGE_RELEASES__SELECT__PINS": '["1.21", "go1.25.3"]',
            "MOORAGE_NETWORK__ALLOW": '["127.0.0.0/8", "10.1.0.0/16:8443"]',
            "MOORAGE_STORAGE__MIN_FREE_PERCENT": "2.5",
            "PATH": "/bin",
        }
    )
    assert settings.releases.select.minors == 3
    assert settings.releases.select.on_demand is False
    assert settings.releases.select.pins == ("1.21", "go1.25.3")
    assert settings.network.allow == ("127.0.0.0/8", "10.1.0.0/16:8443")
    assert settings.storage.min_free_percent == 2.5


def test_a_table_is_json_and_its_own_variables_add_to_it():
    settings = load_settings(
        {
            "MOORAGE_RELEASES": '{"parallel": 2, "select": {"minors": 5, "patches": 7}}',
            "MOORAGE_RELEASES__SELECT": '{"patches": 8}',
            "MOORAGE_RELEASES__PARALLEL": "3",
        }
    )
    assert (settings.releases.parallel, settings.releases.select.minors) == (3, 5)
    assert settings.releases.select.patches == 8


def test_environment_beats_file_beats_toml_beats_default(tmp_path):
    toml = written(tmp_path / "m.toml", "port = 1\nworkers = 2\ndrain_s = 3\n")
    workers = written(tmp_path / "workers", "4\n", 0o644)
    loaded = load({"MOORAGE_CONFIG": toml, "MOORAGE_WORKERS_FILE": workers, "MOORAGE_PORT": "5"})
    settings = loaded.settings
    values = (settings.port, settings.workers, settings.drain_s, settings.shutdown_s)
    assert values == (5, 4, 3, 30)
    origins = {n: (o.source, o.where) for n, o in loaded.origins.items() if o.source != "default"}
    assert origins == {
        "port": ("env", "MOORAGE_PORT"),
        "workers": ("file", workers),
        "drain_s": ("file", toml),
    }


def test_toml_holds_every_kind_of_value(tmp_path):
    toml = written(
        tmp_path / "m.toml",
        'data_dir = "/srv/moorage"\n[releases]\nsync_s = 3600\n[releases.select]\n'
        'os = ["linux"]\nstable_only = false\n[storage]\nmin_free_percent = 1\n',
    )
    settings = load_settings({"MOORAGE_CONFIG": toml})
    assert settings.data_dir == Path("/srv/moorage")
    assert settings.releases.sync_s == 3600
    assert settings.releases.select.os == ("linux",)
    assert settings.releases.select.stable_only is False
    assert settings.storage.min_free_percent == 1.0


def test_exactly_one_final_newline_of_a_file_is_dropped(tmp_path):
    url = "postgresql+psycopg://m@db/moorage"
    once = written(tmp_path / "once", url + "\n")
    twice = written(tmp_path / "twice", url + "\n\n")
    assert load_settings({"MOORAGE_DATABASE_URL_FILE": once}).database_url == url
    assert "control character" in problem({"MOORAGE_DATABASE_URL_FILE": twice})


@pytest.mark.parametrize(
    ("place", "is_one"),
    [
        ("m:p#/?@db:5432/moorage", True),
        ("[::1]:5432/moorage", True),
        ("/moorage?host=/run/postgresql", True),
        ("m:p@db:port/moorage", False),
        ("m:p@db:/moorage", False),
        ("m:p@db:5432,other/moorage", False),
    ],
)
def test_host_and_port_of_a_database_are_read_as_its_driver_does(place, is_one):
    environ = {"MOORAGE_DATABASE_URL": f"postgresql+psycopg://{place}"}
    if is_one:
        assert load_settings(environ).database_url == environ["MOORAGE_DATABASE_URL"]
    else:
        assert "its host or port is malformed" in problem(environ)


def test_a_list_may_come_from_a_file(tmp_path):
    path = written(tmp_path / "allow", '["10.0.0.0/8"]\n')
    assert load_settings({"MOORAGE_NETWORK__ALLOW_FILE": path}).network.allow == ("10.0.0.0/8",)


def test_a_setting_whose_name_ends_in_file_is_not_taken_for_a_file_of_another(tmp_path):
    bundle = written(tmp_path / "ca.pem", "-----BEGIN CERTIFICATE-----\n")
    name = written(tmp_path / "name", bundle + "\n")
    assert load_settings({"MOORAGE_NETWORK__CA_FILE": bundle}).network.ca_file == Path(bundle)
    assert load_settings({"MOORAGE_NETWORK__CA_FILE_FILE": name}).network.ca_file == Path(bundle)


def test_paths_are_absolute_and_the_database_lies_in_the_data_dir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings({})
    assert settings.data_dir == tmp_path / "data"
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/data/moorage.db"
    assert not settings.data_dir.exists()


def test_a_given_database_is_used_as_it_is():
    url = "postgresql+psycopg://m:p%40ss@db.example:5432/moorage?sslmode=verify-full"
    assert load_settings({"MOORAGE_DATABASE_URL": url}).resolved_database_url == url


@pytest.mark.parametrize(
    ("variable", "text", "canonical"),
    [
        ("MOORAGE_RELEASES__INDEX_URL", "HTTPS://Go.Dev:443/dl/", "https://go.dev/dl/"),
        ("MOORAGE_RELEASES__INDEX_URL", "https://go.dev", "https://go.dev/"),
        ("MOORAGE_RELEASES__INDEX_URL", "https://[::1]:8443/dl", "https://[::1]:8443/dl"),
        ("MOORAGE_RELEASES__FILES_URLS", '["https://a.b/go"]', ("https://a.b/go/",)),
        ("MOORAGE_RELEASES__KEYRING_URL", "", None),
        ("MOORAGE_RELEASES__PINNED_FINGERPRINTS", json.dumps([KEY.lower()]), (KEY,)),
        (
            "MOORAGE_RELEASES__PINNED_FINGERPRINTS",
            '["EB4C 1BFD 4F04 2F6D DDCC  EC91 7721 F63B D38B 4796"]',
            (KEY,),
        ),
        ("MOORAGE_HOST", "::", "::"),
        ("MOORAGE_HOST", "moorage.corp.example", "moorage.corp.example"),
        ("MOORAGE_PORT", "0", 0),
        ("MOORAGE_RELEASES__SHA256_ONLY", "[]", ()),
    ],
)
def test_a_value_becomes_canonical(variable, text, canonical):
    settings = load_settings({variable: text}).model_dump()
    for name in variable.removeprefix("MOORAGE_").lower().split("__"):
        settings = settings[name]
    assert settings == canonical


FILES = "MOORAGE_RELEASES__FILES_URLS"
INDEX = "MOORAGE_RELEASES__INDEX_URL"
SELECT = "MOORAGE_RELEASES__SELECT__"


@pytest.mark.parametrize(
    ("variable", "value", "wrong"),
    [
        ("MOORAGE_PORT", "70000", "whole number from 0 to 65535"),
        ("MOORAGE_PORT", "-1", "whole number from 0 to 65535"),
        ("MOORAGE_PORT", "8_080", "not a whole number"),
        ("MOORAGE_PORT", "", "not a whole number"),
        ("MOORAGE_PORT", "9" * 5000, "not a whole number"),
        ("MOORAGE_WORKERS", "0", "from 1 to 64"),
        ("MOORAGE_WORKERS", "65", "from 1 to 64"),
        ("MOORAGE_HOST", "", "neither an address nor a host name"),
        ("MOORAGE_HOST", "a b", "neither an address nor a host name"),
        ("MOORAGE_LOG_LEVEL", "INFO", "one of debug, info, warning, error"),
        ("MOORAGE_LOG_FORMAT", "xml", "one of auto, json, text"),
        ("MOORAGE_DATA_DIR", "", "it is empty"),
        ("MOORAGE_DATA_DIR", "~/moorage", '"~" is not expanded'),
        ("MOORAGE_DATA_DIR", "/srv/a?b", '"?"'),
        ("MOORAGE_DATA_DIR", "/srv/a\x1b[2Jb", "not printable"),
        ("MOORAGE_DATA_DIR", "/dev/null", "not a directory"),
        ("MOORAGE_DATA_DIR", "/dev/null/x", "can't be used"),
        ("MOORAGE_DATABASE_URL", "", "it is empty"),
        ("MOORAGE_DATABASE_URL", "postgresql://db/m", "scheme"),
        ("MOORAGE_DATABASE_URL", "sqlite://", "names no database"),
        ("MOORAGE_DATABASE_URL", "sqlite:///:memory:", "in memory"),
        ("MOORAGE_DATABASE_URL", "postgresql+psycopg://", "names no database"),
        (INDEX, "https://user:pw@go.dev/dl/", "user name or password"),
        (INDEX, "https://go.dev/dl/?mode=json", "query"),
        (INDEX, "https://go.dev/dl/?", "query"),
        (INDEX, "https://go.dev/dl/#x", "fragment"),
        (INDEX, "ftp://go.dev/dl/", "neither https:// nor http://"),
        (INDEX, "go.dev/dl/", "neither https:// nor http://"),
        (INDEX, "https:///dl/", "no host"),
        (INDEX, "https://go.dev:99999/", "malformed"),
        (INDEX, "https://go.dev:0/", "port is 0"),
        (INDEX, "https://[::1/", "malformed"),
        (INDEX, "https://go.dev/d l/", "character"),
        (INDEX, "https://gö.dev/", "character"),
        (INDEX, "", "neither https:// nor http://"),
        (FILES, "[]", "the list is empty"),
        (FILES, '["https://a/go", "https://A:443/go/"]', "entry 2 repeats entry 1"),
        (FILES, '["https://a/", "https://u@b/"]', "entry 2: it has a user name"),
        (FILES, "https://a/", "not JSON (at character 1)"),
        (FILES, '"https://a/"', "not accepted"),
        (FILES, "[1]", "entry 1"),
        (FILES, "[" * 100_000, "not JSON that can be used"),
        ("MOORAGE_RELEASES__PINNED_FINGERPRINTS", '["D38B4796"]', "not a full OpenPGP"),
        ("MOORAGE_RELEASES__PINNED_FINGERPRINTS", "[]", "the list is empty"),
        ("MOORAGE_RELEASES__SHA256_ONLY", '["exe"]', "entry 1"),
        (SELECT + "OS", "[]", "the list is empty"),
        (SELECT + "ARCH", "[]", "the list is empty"),
        (SELECT + "KINDS", "[]", "the list is empty"),
        (SELECT + "KINDS", '["archives"]', '"archive", "installer" and "source"'),
        (SELECT + "OS", '["Linux"]', "not a GOOS or GOARCH word"),
        (SELECT + "PINS", '["1.25", "latest"]', "entry 2: it is neither a minor"),
        (SELECT + "STABLE_ONLY", "maybe", "true or false"),
        (SELECT + "MINORS", "-1", "from 0 to 1000"),
        ("MOORAGE_RELEASES__REFRESH_S", "0", "from 1 to"),
        ("MOORAGE_RELEASES__SYNC_S", "59", "less than a minute"),
        ("MOORAGE_NETWORK__ALLOW", '["10.0.0.1/8"]', "bits are set behind the prefix"),
        ("MOORAGE_NETWORK__ALLOW", '["10.0.0.1"]', "prefix length"),
        ("MOORAGE_NETWORK__ALLOW", '["10.0.0.0/33"]', "no such range"),
        ("MOORAGE_NETWORK__ALLOW", '["10.0.0.0/8:0"]', "port"),
        ("MOORAGE_NETWORK__ALLOW", '["[10.0.0.0]/8"]', "brackets"),
        ("MOORAGE_NETWORK__CA_FILE", "/nowhere/ca.pem", "can't be read"),
        ("MOORAGE_RELEASES__KEYRING", "/dev/null", "is not a file"),
        ("MOORAGE_STORAGE__MIN_FREE_PERCENT", "nan", "from 0 to 50"),
        ("MOORAGE_STORAGE__MIN_FREE_PERCENT", "50.1", "from 0 to 50"),
        ("MOORAGE_RELEASES", "[]", "not a table"),
        ("MOORAGE_RELEASES", "{", "not JSON"),
        ("MOORAGE_CONFIG", "", "it is empty"),
        ("MOORAGE_CONFIG", "/nowhere/m.toml", "can't be read"),
        ("MOORAGE_PORT_FILE", "/nowhere/port", "can't be read"),
    ],
)
def test_F101_a_malformed_value_stops_the_start_with_name_and_reason(variable, value, wrong):
    line = problem({variable: value})
    assert line.startswith(f"{variable}: ")
    assert wrong in line


@pytest.mark.parametrize(
    ("text", "name", "wrong"),
    [
        ("workers = true", "workers", "not a whole number"),
        ("port = 80.5", "port", "not a whole number"),
        ("host = 1", "host", "not accepted"),
        ("releases = 1", "releases", "not a table"),
        ("log_level = 2026-01-01", "log_level", "one of debug"),
        ("[storage]\nmin_free_percent = true", "storage.min_free_percent", "not a number"),
        ("[storage]\nmin_free_percent = nan", "storage.min_free_percent", "from 0 to 50"),
        ('data_dir = "a\\u0000b"', "data_dir", "not printable"),
        ("[releases.select]\nminor = 3", "releases.select.minor", "releases.select.minors?"),
        ("[release.select]\nminors = 3", "release", "did you mean releases?"),
        ("minors = 3", "minors", "did you mean releases.select.minors?"),
        ("port = ", "MOORAGE_CONFIG", "is not TOML"),
        ("port = 1\nport = 2", "MOORAGE_CONFIG", "is not TOML"),
        ("port = " + "[" * 100_000, "MOORAGE_CONFIG", "nested too deeply"),
    ],
)
def test_F101_toml_is_refused_with_its_own_name(tmp_path, text, name, wrong):
    line = problem({"MOORAGE_CONFIG": written(tmp_path / "m.toml", text)})
    assert line.startswith(f"{name}: ")
    assert wrong in line


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("MOORAGE_RELEASE_INDEX_URL", "did you mean MOORAGE_RELEASES__INDEX_URL?"),
        ("MOORAGE_RELEASES_SELECT_MINORS", "did you mean MOORAGE_RELEASES__SELECT__MINORS?"),
        ("MOORAGE_MINORS", "did you mean MOORAGE_RELEASES__SELECT__MINORS?"),
        ("MOORAGE_DATABSE_URL_FILE", "did you mean MOORAGE_DATABASE_URL_FILE?"),
        ("MOORAGE_port", "did you mean MOORAGE_PORT?"),
        ("MOORAGE_CONFG", "did you mean MOORAGE_CONFIG?"),
        ("MOORAGE_PORT_80_TCP_ADDR", "enableServiceLinks"),
        ("MOORAGE_SERVICE_HOST", "enableServiceLinks"),
        ("MOORAGE_", "unknown setting"),
        ("MOORAGE_MODULES__UPSTREAMS", "unknown setting"),
        ("MOORAGE_RELEASES_FILE", "unknown setting"),
    ],
)
def test_F101_an_unknown_variable_stops_the_start_with_a_suggestion(variable, hint):
    line = problem({variable: CANARY})
    assert line.startswith(f"{variable}: ")
    assert hint in line


@pytest.mark.parametrize("variable", ["MOORAGE_TOKEN", "MOORAGE_CHANNEL", "MOORAGE_BIN"])
def test_a_variable_of_another_program_of_this_project_is_no_setting(variable):
    assert load_settings({variable: CANARY}).port == 8080


def test_F101_the_port_that_kubernetes_injects_is_explained():
    assert "enableServiceLinks" in problem({"MOORAGE_PORT": "tcp://10.0.0.7:80"})


def test_F101_a_variable_and_its_file_together_are_refused(tmp_path):
    path = written(tmp_path / "port", "1")
    line = problem({"MOORAGE_PORT": "1", "MOORAGE_PORT_FILE": path})
    assert line == "MOORAGE_PORT_FILE: MOORAGE_PORT is set too; unset one of the two"


def test_F101_every_problem_is_listed_one_per_line(tmp_path):
    toml = written(tmp_path / "m.toml", "[releases.select]\nminor = 3\npatches = 0\n")
    lines = problems(
        {
            "MOORAGE_CONFIG": toml,
            "MOORAGE_POTR": "1",
            "MOORAGE_BAD\nNAME": "1",
            "MOORAGE_NETWORK__ALLOW": "10.0.0.0/8",
            "MOORAGE_WORKERS": "0",
            "MOORAGE_RELEASES__SYNC_S": "60",
            "MOORAGE_RELEASES__SELECT__MINORS": "0",
            INDEX: "http://mirror/",
        }
    )
    # With network.allow unreadable nothing can be said about the http:// URL.
    assert sorted(line.partition(": ")[0] for line in lines) == [
        "MOORAGE_BAD\\nNAME",
        "MOORAGE_NETWORK__ALLOW",
        "MOORAGE_POTR",
        "MOORAGE_RELEASES__SYNC_S",
        "MOORAGE_WORKERS",
        "releases.select.minor",
        "releases.select.patches",
    ]


@pytest.mark.parametrize(
    ("environ", "name", "wrong"),
    [
        ({"MOORAGE_PORT": "0", "MOORAGE_WORKERS": "2"}, "MOORAGE_PORT", "2 workers"),
        (
            {"MOORAGE_RELEASES__SYNC_S": "60", "MOORAGE_RELEASES__SELECT__MINORS": "0"},
            "MOORAGE_RELEASES__SYNC_S",
            "nothing to sync",
        ),
        ({INDEX: "http://mirror.example/"}, INDEX, "use https://"),
        ({INDEX: "http://10.0.0.1/"}, INDEX, "network.allow"),
        ({INDEX: "http://m.x/", "MOORAGE_NETWORK__ALLOW": '["0.0.0.0/0"]'}, INDEX, "use https://"),
        ({FILES: '["https://a/", "http://10.0.0.1/"]'}, FILES, "entry 2: http://"),
        ({"MOORAGE_RELEASES__KEYRING_URL": "http://k/"}, "MOORAGE_RELEASES__KEYRING_URL", "http"),
        (
            {INDEX: "http://10.0.0.1:81/", "MOORAGE_NETWORK__ALLOW": '["10.0.0.0/8:80"]'},
            INDEX,
            "network.allow",
        ),
        ({"MOORAGE_STORAGE__REDIRECT": "true"}, "MOORAGE_STORAGE__REDIRECT", "s3://"),
        ({"MOORAGE_STORAGE__S3__REGION": "eu-1"}, "MOORAGE_STORAGE__S3__REGION", "s3://"),
        (
            {"MOORAGE_STORAGE__URL": "s3://moorage", "MOORAGE_STORAGE__S3__ACCESS_KEY": "a"},
            "MOORAGE_STORAGE__S3__SECRET_KEY",
            "set both",
        ),
        (
            {
                "MOORAGE_STORAGE__URL": "s3://moorage/a/b",
                "MOORAGE_STORAGE__S3__ENDPOINT": "http://10.0.0.1:9000",
            },
            "MOORAGE_STORAGE__S3__ENDPOINT",
            "network.allow",
        ),
        ({"MOORAGE_SECRETS_KEY_BEFORE": 43 * "A" + "="}, "MOORAGE_SECRETS_KEY_BEFORE", "set both"),
        ({"MOORAGE_STORAGE__URL": "s3://Bucket"}, "MOORAGE_STORAGE__URL", "bucket"),
        ({"MOORAGE_STORAGE__URL": "s3://bucket/a//b"}, "MOORAGE_STORAGE__URL", "prefix"),
        ({"MOORAGE_STORAGE__URL": "s3://bucket/../b"}, "MOORAGE_STORAGE__URL", "prefix"),
        ({"MOORAGE_STORAGE__URL": "file:///srv"}, "MOORAGE_STORAGE__URL", "bucket"),
    ],
)
def test_F101_settings_that_contradict_each_other_are_refused(environ, name, wrong):
    line = problem(environ)
    assert line.startswith(f"{name}: ")
    assert wrong in line


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("http://127.0.0.1:8081/dl/", "127.0.0.0/8"),
        ("http://localhost/dl/", "127.0.0.0/8:80"),
        ("http://localhost/dl/", "::1/128"),
        ("http://[fd00::1]:8081/", "[fd00::]/8:8081"),
    ],
)
def test_plain_http_is_accepted_inside_an_allowed_network(url, allow):
    settings = load_settings({INDEX: url, "MOORAGE_NETWORK__ALLOW": json.dumps([allow])})
    assert settings.releases.index_url == url


def test_contradictions_are_refused_without_any_environment_too():
    with pytest.raises(ValidationError, match="another port"):
        Settings(workers=2, port=0)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
@pytest.mark.parametrize("variable", ["MOORAGE_RELEASES__KEYRING", "MOORAGE_NETWORK__CA_FILE"])
def test_F101_a_key_that_others_can_change_is_refused_with_the_command(tmp_path, variable, mode):
    path = written(tmp_path / "a key", "key", mode)
    assert f"run chmod go-w '{path}'" in problem({variable: path})
    assert load_settings({variable: written(tmp_path / "a key", "key", 0o644)})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_F101_a_secret_that_others_can_read_is_refused_with_the_command(tmp_path, mode):
    path = written(tmp_path / "db", f"postgresql+psycopg://m:{CANARY}@db/m", mode)
    line = problem({"MOORAGE_DATABASE_URL_FILE": path})
    assert line.startswith("MOORAGE_DATABASE_URL_FILE: it is secret")
    assert f"run chmod go-rw {path}" in line
    toml = written(tmp_path / "m.toml", f'database_url = "postgresql+psycopg://m:{CANARY}@d/m"')
    assert load_settings({"MOORAGE_CONFIG": toml}).database_url
    Path(toml).chmod(mode)
    assert problem({"MOORAGE_CONFIG": toml}).startswith("database_url: it is secret")


@pytest.mark.parametrize(
    ("mode", "owner", "group", "accepted"),
    [
        (0o100440, 0, 65532, True),
        (0o100640, 0, 65532, True),
        (0o100460, 0, 65532, False),
        (0o100444, 0, 65532, False),
        (0o100440, 1000, 65532, False),
        (0o100440, 0, 1000, False),
        (0o100440, 0, 0, True),  # LoadCredential: an access list names the user
        (0o100460, 0, 0, False),
    ],
)
def test_a_secret_of_root_for_the_group_of_the_service_is_accepted(mode, owner, group, accepted):
    assert is_handed_over(mode, owner, group, {65532}) is accepted


def test_a_toml_file_without_a_secret_may_be_read_by_everybody(tmp_path):
    toml = written(tmp_path / "m.toml", "port = 1", 0o644)
    assert load_settings({"MOORAGE_CONFIG": toml}).port == 1


@pytest.mark.parametrize(("size", "wrong"), [(0, "has 0 bytes"), (1048577, "has 1048577 bytes")])
def test_F101_a_keyring_is_neither_empty_nor_over_a_mebibyte(tmp_path, size, wrong):
    path = written(tmp_path / "key.asc", "x" * size)
    assert wrong in problem({"MOORAGE_RELEASES__KEYRING": path})


def test_a_keyring_of_exactly_a_mebibyte_is_accepted(tmp_path):
    path = written(tmp_path / "key.asc", "x" * 1048576)
    assert load_settings({"MOORAGE_RELEASES__KEYRING": path}).releases.keyring == Path(path)


def test_F101_a_file_that_is_too_big_or_not_text_is_refused(tmp_path):
    (tmp_path / "big").write_bytes(b"1" * 1048577)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "more than" in problem({"MOORAGE_PORT_FILE": str(tmp_path / "big")})
    assert "not UTF-8" in problem({"MOORAGE_PORT_FILE": str(tmp_path / "binary")})
    assert "not a file" in problem({"MOORAGE_PORT_FILE": str(tmp_path)})


# A path is named in messages, and the canary is a fine directory and host name.
NAMES_OF_THINGS = {
    *("data_dir", "host", "metrics.host", "releases.keyring", "network.ca_file"),
    "releases.own_keyring",
    "tls.cert_file",  # looked at by the start
}


@pytest.mark.parametrize(
    "setting",
    [s for s in reference.all_settings() if s.name not in NAMES_OF_THINGS],
    ids=lambda s: s.name,
)
@pytest.mark.parametrize("value", [CANARY, f"https://u:{CANARY}@h/?", f'["http://u:{CANARY}@h"]'])
def test_no_message_repeats_a_value(tmp_path, setting, value):
    path = written(tmp_path / "value", value)
    for environ in ({setting.variable: value}, {setting.variable + "_FILE": path}):
        assert CANARY not in problem(environ)


def test_a_secret_is_in_no_text_of_the_settings():
    settings = load_settings({"MOORAGE_DATABASE_URL": f"postgresql+psycopg://m:{CANARY}@d/m"})
    assert CANARY not in repr(settings) + str(settings)
    with pytest.raises(ValidationError) as caught:
        Settings(database_url=f"mysql://m:{CANARY}@d/m")
    assert CANARY not in str(caught.value)


def test_settings_travel_to_worker_processes():
    settings = load_settings({"MOORAGE_RELEASES__SELECT__PINS": '["1.21"]'})
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_settings_cannot_be_changed_or_extended():
    settings = load_settings({})
    with pytest.raises(ValidationError, match="frozen"):
        settings.releases.select.minors = 3
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 3
    with pytest.raises(ValidationError, match="extra"):
        Settings(potr=1)
    assert hash(settings.releases) == hash(load_settings({}).releases)


NETWORKS = ["10.0.0.0/8", "10.0.0.0/8:80", "::1/128", "[::1]/128:443", "fd00::/8:443", "0.0.0.0/0"]
NO_NETWORKS = ["", "10.0.0.1", "10.0.0.1/8", "10.0.0.0/8:", "10.0.0.0/8:65536", "x", "[10.0.0.0]/8"]


@pytest.mark.parametrize("text", NETWORKS + NO_NETWORKS)
def test_a_network_is_accepted_here_exactly_when_the_address_guard_accepts_it(text):
    def accepted(parse, arg):
        try:
            parse(arg)
        except Exception:
            return False
        return True

    here = accepted(load_settings, {"MOORAGE_NETWORK__ALLOW": json.dumps([text])})
    assert here == accepted(AllowedNetwork.parse, text) == (text in NETWORKS)


@pytest.mark.parametrize("url", ["https://go.dev", "HTTPS://A_b.c:8443/x%20y", "https://[::1]/a"])
def test_an_accepted_url_is_one_that_the_http_client_takes_unchanged(url):
    accepted = load_settings({INDEX: url}).releases.index_url
    assert Url.parse(accepted).shown == accepted
