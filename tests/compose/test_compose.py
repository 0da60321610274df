"""docker-compose.yml: both profiles are what Docker and Moorage take."""

import ipaddress
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.settings import load_settings
from app.settings.reference import all_settings
from tests.compose.composition import (
    FILES,
    ROOT,
    composition,
    environment,
    make_secrets,
    services,
    variables,
)

# What the image sets, beside docker-compose.yml.
OF_THE_IMAGE = {"MOORAGE_DATA_DIR": "/data", "MOORAGE_HOST": "0.0.0.0"}
SECRETS = {setting.variable for setting in all_settings() if setting.is_secret}
OWN = [name for name, one in composition()["services"].items() if "build" in one]
both_profiles = pytest.mark.parametrize("profile", ["single", "replicated"])


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    make_secrets(folder)
    return folder


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return done.returncode == 0


@both_profiles
def test_docker_takes_the_profile(profile: str, tmp_path: Path) -> None:
    if not has_compose():
        pytest.skip("docker compose is not installed")
    for name in ("docker-compose.yml", ".env"):
        shutil.copy(ROOT / name, tmp_path)
    secrets = tmp_path / "deploy" / "compose" / "secrets"
    secrets.parent.mkdir(parents=True)
    make_secrets(secrets)
    command = ["docker", "compose", "--profile", profile, "config", "--format", "json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    read = json.loads(done.stdout)["services"]
    assert set(read) == set(services(profile))
    # What the other tests take for a container's environment is what Docker gives to it.
    for name, one in services(profile).items():
        assert (read[name].get("environment") or {}) == environment(one, secrets)


def test_single_is_the_profile_when_none_is_named() -> None:
    lines = [line for line in (ROOT / ".env").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["COMPOSE_PROFILES=single"]
    assert set(services("single")) == {"moorage"}
    everything = composition()["services"]
    assert all(one["profiles"] in (["single"], ["replicated"]) for one in everything.values())


def test_replicated_has_every_part() -> None:
    assert set(services("replicated")) == {
        *("postgres", "s3", "bucket", "migrate", "replica-one", "replica-two"),
        *("haproxy", "prometheus", "grafana"),
    }


@both_profiles
def test_every_variable_of_moorage_is_a_setting_and_all_are_valid(
    profile: str, secrets: Path
) -> None:
    for name in set(OWN) & set(services(profile)):
        environ = environment(services(profile)[name], secrets)
        assert all(variable.startswith("MOORAGE_") for variable in environ)
        settings = load_settings(environ | OF_THE_IMAGE)
        is_replica = profile == "replicated"
        assert (settings.database_url is not None) is is_replica
        assert settings.storage.url.startswith("s3:") is is_replica


def test_replicas_differ_in_nothing_but_their_volume() -> None:
    one, two, migrate = (
        services("replicated")[n] for n in ("replica-one", "replica-two", "migrate")
    )
    assert one | {"volumes": None} == two | {"volumes": None}
    assert one["volumes"] != two["volumes"]
    for name in ("environment", "env_file", "image"):
        assert one[name] == migrate[name]


def test_no_secret_is_in_the_file() -> None:
    for one in composition()["services"].values():
        environ = one.get("environment", {})
        assert SECRETS.isdisjoint(environ)
        assert not [name for name in environ if re.search("PASSWORD|SECRET|TOKEN", name)]


@pytest.mark.parametrize("name", composition()["services"])
def test_ports_are_on_loopback_alone(name: str) -> None:
    for port in composition()["services"][name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", OWN)
def test_moorage_runs_without_rights_and_gets_time_to_end(name: str) -> None:
    one = composition()["services"][name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    defaults = load_settings({})
    assert int(one["stop_grace_period"].removesuffix("s")) > defaults.drain_s + defaults.shutdown_s


def depends(one: dict[str, Any]) -> set[str]:
    return set(one.get("depends_on", {}))


@both_profiles
def test_what_a_service_names_is_in_its_profile(profile: str) -> None:
    whole = composition()
    for one in services(profile).values():
        assert depends(one) <= set(services(profile))
        for volume in one.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), volume
            else:
                assert source in whole["volumes"]
        for file in one.get("env_file", []):
            assert Path(file["path"]).parent == Path("deploy/compose/secrets")


def test_replicas_start_on_a_migrated_database_and_a_bucket() -> None:
    replicated = services("replicated")
    assert replicated["replica-one"]["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"},
        "bucket": {"condition": "service_completed_successfully"},
    }
    assert replicated["migrate"]["command"] == ["migrate"]
    for name in ("postgres", "s3"):
        assert "healthcheck" in replicated[name]
    (command,) = replicated["bucket"]["command"]
    bucket = replicated["replica-one"]["environment"]["MOORAGE_STORAGE__URL"].split("/")[2]
    assert f"s3.bucket.create -name {bucket}'" in command


def test_fixed_addresses_are_those_that_settings_name() -> None:
    replicated, whole = services("replicated"), composition()
    network = ipaddress.ip_network(whole["networks"]["default"]["ipam"]["config"][0]["subnet"])
    address = {
        name: one["networks"]["default"]["ipv4_address"]
        for name, one in replicated.items()
        if "networks" in one
    }
    assert all(ipaddress.ip_address(one) in network for one in address.values())
    environ = replicated["replica-one"]["environment"]
    assert environ["MOORAGE_STORAGE__S3__ENDPOINT"] == f"http://{address['s3']}:8333"
    assert json.loads(environ["MOORAGE_NETWORK__ALLOW"]) == [f"{address['s3']}/32:8333"]
    assert json.loads(environ["MOORAGE_NETWORK__GATEWAYS"]) == [f"{address['haproxy']}/32"]
    assert f"-ip={address['s3']}" in replicated["s3"]["command"]


def test_secrets_are_made_once_each_service_has_its_own_and_no_other_user_reads_them(
    secrets: Path,
) -> None:
    files = {file.name: variables(file) for file in secrets.iterdir()}
    assert set(files) == {"postgres.env", "s3.env", "moorage.env", "grafana.env"}
    assert {file.stat().st_mode & 0o777 for file in secrets.iterdir()} == {0o600}
    # The earlier key is there while the key is changed, and not before.
    assert set(files["moorage.env"]) == SECRETS - {"MOORAGE_SECRETS_KEY_BEFORE"}
    assert (
        files["postgres.env"]["POSTGRES_PASSWORD"] in files["moorage.env"]["MOORAGE_DATABASE_URL"]
    )
    secret = files["moorage.env"]["MOORAGE_STORAGE__S3__SECRET_KEY"]
    assert files["s3.env"] == {"AWS_ACCESS_KEY_ID": "moorage", "AWS_SECRET_ACCESS_KEY": secret}
    again = make_secrets(secrets)
    assert "not changed" in again.stderr
    assert {file.name: variables(file) for file in secrets.iterdir()} == files


def test_prometheus_takes_its_file_and_asks_every_replica(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    text = (FILES / "prometheus.yml").read_text()
    for name in ("replica-one", "replica-two"):
        port = services("replicated")[name]["environment"]["MOORAGE_METRICS__PORT"]
        assert f'"{name}:{port}"' in text
    mounts = services("replicated")["prometheus"]["volumes"]
    assert "./charts/moorage/rules:/etc/prometheus/rules:ro" in mounts
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/rules", str(ROOT / "charts/moorage/rules")))
    done = subprocess.run(
        ["promtool", "check", "config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
