"""charts/moorage: every mode renders to valid objects; wrong values are refused with a reason."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import lint

from app.settings import load_settings
from app.settings.reference import all_settings
from charts.build import SCHEMA, written_schema
from tests.charts.rendering import CHART, REPLICATED, manifests, only, pods, texts

SINGLE: dict[str, Any] = {}
EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.example/go/moorage", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "publicUrl": "https://moorage.example",
    "gateways": ["10.1.2.0/28"],
    "settings": {
        "MOORAGE_RELEASES__SYNC_S": 21600,
        "MOORAGE_NETWORK__ALLOW": ["10.20.0.0/16:443"],
        "MOORAGE_STORAGE__MIN_FREE_PERCENT": 2.5,
        "MOORAGE_RELEASES__ZSTD__ENABLED": False,
        "MOORAGE_DRAIN_S": 20,
    },
    "tls": {"existingSecret": "moorage-tls", "clientCaSecret": "clients"},
    "service": {"type": "LoadBalancer", "port": 443, "annotations": {"a": "b"}},
    "ingress": {"enabled": True, "className": "nginx", "host": "m.example", "tlsSecret": "m"},
    "httpRoute": {
        "enabled": True,
        "parentRefs": [{"name": "gateway", "namespace": "net"}],
        "hostnames": ["m.example"],
    },
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
    },
    "networkPolicy": {
        "from": [{"namespaceSelector": {}}],
        "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
        "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "important",
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "build"},
    "serviceAccount": {"annotations": {"role": "moorage"}},
    "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/etc/company/ca.crt"}],
    "extraVolumes": [{"name": "company", "configMap": {"name": "company"}}],
    "extraVolumeMounts": [{"name": "company", "mountPath": "/etc/company"}],
    "extraManifests": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-two\n",
    ],
}
CASES = {
    "single": SINGLE,
    "single-everything": EVERYTHING | {"persistence": {"storageClassName": "fast"}},
    "replicated": REPLICATED,
    "replicated-everything": EVERYTHING
    | REPLICATED
    | {
        "storage": {
            "url": "s3://moorage/prod",
            "redirect": True,
            "s3": {"endpoint": "https://s3.example", "region": "eu-central-1"},
        },
        "secrets": {"databaseUrl": {"name": "postgres-app", "key": "uri"}},
        "cache": {"sizeGiB": 50, "storageClassName": "local"},
        "autoscaling": {"enabled": True},
    },
    "replicated-ambient": REPLICATED
    | {"storage": {"url": "s3://moorage/prod", "s3": {"ambientIdentity": True}}}
    | {"serviceAccount": {"create": False, "name": "moorage-s3"}},
}
in_each_case = pytest.mark.parametrize("values", CASES.values(), ids=CASES)
SECRETS = {setting.variable for setting in all_settings() if setting.is_secret}
# Kinds that a cluster has only with an operator: kubernetes_validate has no schema of them.
OF_OPERATORS = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}


@in_each_case
def test_lint_has_nothing_to_say(values: dict[str, Any]) -> None:
    report = lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert {one["error"] for one in report["messages"]} <= {"icon is recommended"}


@pytest.mark.parametrize("version", ["1.27", "1.37"])
@in_each_case
def test_every_object_is_what_kubernetes_takes(values: dict[str, Any], version: str) -> None:
    import kubernetes_validate  # it takes seconds, which each process of the tests would pay

    objects = manifests(values)
    for one in objects:
        if one["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(one, version, strict=True)
    assert len(objects) >= 6


@in_each_case
def test_every_object_has_a_name_of_its_own_in_the_release(values: dict[str, Any]) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests(values)]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for _, name in names)


def test_each_mode_has_its_workload() -> None:
    kinds = {one["kind"] for one in manifests(SINGLE)}
    assert "StatefulSet" in kinds
    assert kinds.isdisjoint({"Deployment", "Job", "HorizontalPodAutoscaler", "PodDisruptionBudget"})
    kinds = {one["kind"] for one in manifests(CASES["replicated-everything"])}
    assert {"Deployment", "Job", "HorizontalPodAutoscaler", "PodDisruptionBudget"} <= kinds
    assert {"HTTPRoute", "Ingress", "NetworkPolicy", "ServiceMonitor"} <= kinds
    assert "StatefulSet" not in kinds


# https://kubernetes.io/docs/concepts/security/pod-security-standards/: the rules of "restricted"
# and of "baseline", which it includes. Rules about Windows, sysctls, SELinux and AppArmor ask that
# fields are not set to certain values; the chart sets none of these fields.
@in_each_case
@pytest.mark.parametrize(
    "rule",
    [
        lambda pod, _: not any(pod.get(n) for n in ("hostNetwork", "hostPID", "hostIPC")),
        lambda pod, _: all(
            set(volume) - {"name"} <= {"configMap", "emptyDir", "secret", "ephemeral"}
            for volume in pod.get("volumes", [])
        ),
        lambda pod, _: pod["securityContext"]["runAsNonRoot"] is True,
        lambda pod, _: pod["securityContext"]["runAsUser"] == 65532,
        lambda pod, _: pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"},
        lambda pod, _: set(pod["securityContext"]).isdisjoint(
            {"sysctls", "seLinuxOptions", "windowsOptions", "appArmorProfile"}
        ),
        lambda _, own: own["allowPrivilegeEscalation"] is False,
        lambda _, own: own["capabilities"] == {"drop": ["ALL"]},
        lambda _, own: own["readOnlyRootFilesystem"] is True,  # beyond the standard
        lambda _, own: set(own).isdisjoint({"privileged", "procMount", "seLinuxOptions"}),
        lambda pod, _: (
            not any("hostPort" in port for c in pod["containers"] for port in c.get("ports", []))
        ),
    ],
    ids=[
        "no namespace of the host",
        "volume types",
        "not root",
        "user",
        "seccomp",
        "no sysctl, SELinux, AppArmor or Windows options",
        "no privilege escalation",
        "no capability",
        "read-only root",
        "not privileged",
        "no port of the host",
    ],
)
def test_every_pod_passes_the_restricted_standard(values: dict[str, Any], rule: Any) -> None:
    specs = pods(values)
    assert len(specs) == (2 if values.get("mode") is None else 3)
    for pod in specs:
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert rule(pod, container["securityContext"])


@in_each_case
def test_no_pod_gets_variables_of_services_or_a_token_of_the_cluster(
    values: dict[str, Any],
) -> None:
    ambient = values.get("storage", {}).get("s3", {}).get("ambientIdentity", False)
    for pod in pods(values):
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is ambient


@in_each_case
def test_no_secret_is_in_what_is_rendered(values: dict[str, Any]) -> None:
    objects = manifests(values)
    assert "Secret" not in {one["kind"] for one in objects}
    for pod in pods(values):
        for container in pod["containers"]:
            for variable in container.get("env", []):
                assert variable["name"] not in SECRETS or "secretKeyRef" in variable["valueFrom"]
    (config,) = (
        one
        for one in objects
        if one["kind"] == "ConfigMap" and "MOORAGE_HOST" in one.get("data", {})
    )
    assert SECRETS.isdisjoint(config["data"])


def environment(pod: dict[str, Any], values: dict[str, Any]) -> dict[str, str]:
    """Return the environment that a pod's container gets; a secret is any right value."""
    secret = {
        "MOORAGE_DATABASE_URL": "postgresql+psycopg://m:p@postgres/m",
        "MOORAGE_SECRETS_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "MOORAGE_STORAGE__S3__ACCESS_KEY": "access",
        "MOORAGE_STORAGE__S3__SECRET_KEY": "secret",
    }
    (container,) = pod["containers"]
    environ: dict[str, str] = {}
    if "envFrom" in container:
        (config,) = (
            one
            for one in manifests(values)
            if one["kind"] == "ConfigMap"
            and one["metadata"]["name"] == container["envFrom"][0]["configMapRef"]["name"]
        )
        environ |= config["data"]
    for variable in container.get("env", []):
        if not variable.get("valueFrom", {}).get("secretKeyRef", {}).get("optional"):
            environ[variable["name"]] = variable.get("value") or secret[variable["name"]]
    return environ


@in_each_case
def test_the_settings_of_every_pod_are_settings_and_valid(
    values: dict[str, Any], tmp_path: Path
) -> None:
    for pod in pods(values):
        environ = environment(pod, values)
        if pod["containers"][0]["args"][0] == "health":
            assert environ == {}
            continue
        for name, text in environ.items():
            if name.startswith("MOORAGE_TLS__"):  # files that a Secret is mounted as
                environ[name] = str(tmp_path / name)
                Path(environ[name]).write_text("a file")
                Path(environ[name]).chmod(0o600)
                assert text.startswith("/etc/moorage/")
        settings = load_settings(environ)
        assert settings.host == "0.0.0.0"
        assert settings.data_dir == Path("/data/moorage")
        if pod["containers"][0]["args"] == ["serve"] and values.get("settings"):
            assert settings.releases.sync_s == 21600
            assert settings.network.allow == ("10.20.0.0/16:443",)
            assert settings.storage.min_free_percent == 2.5
            assert settings.releases.zstd.enabled is False


@in_each_case
def test_what_a_pod_mounts_is_a_volume_of_it(values: dict[str, Any]) -> None:
    for one in manifests(values):
        if one["kind"] not in {"StatefulSet", "Deployment", "Job"}:
            continue
        pod = one["spec"]["template"]["spec"]
        claims = one["spec"].get("volumeClaimTemplates", [])
        volumes = {v["name"] for v in pod["volumes"]} | {c["metadata"]["name"] for c in claims}
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted == volumes if one["kind"] != "Job" else mounted <= volumes
        assert {"/data", "/tmp"} <= {m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}


def test_the_migration_comes_before_every_other_object_and_needs_none_of_them() -> None:
    objects = manifests(CASES["replicated-everything"])
    hooks = [
        one
        for one in objects
        if "pre-upgrade" in one["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    ]
    weight = lambda one: int(one["metadata"]["annotations"]["helm.sh/hook-weight"])  # noqa: E731
    hooks.sort(key=weight)
    assert [one["kind"] for one in hooks] == ["ServiceAccount", "Job"]
    assert weight(hooks[0]) < weight(hooks[1])
    for one in hooks:
        annotations = one["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    account, job = hooks
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert pod["containers"][0]["args"] == ["migrate"]
    others = {one["metadata"]["name"] for one in objects if one not in hooks}
    extra = {"company"}  # of extraVolumes: the user's own
    assert "envFrom" not in pod["containers"][0]
    volumes = {
        text for volume in pod["volumes"] for text in re.findall(r"'name': '([^']+)'", str(volume))
    }
    assert (volumes - extra).isdisjoint(others)
    # Nothing that selects the server's pods selects the migration's.
    selector = only("NetworkPolicy", CASES["replicated-everything"])["spec"]["podSelector"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert not selector["matchLabels"].items() <= labels.items()


def test_the_migration_has_the_settings_of_the_pods() -> None:
    values = CASES["replicated-everything"]
    server, migration = (
        environment(one["spec"]["template"]["spec"], values)
        for one in sorted(manifests(values), key=lambda one: one["kind"])
        if one["kind"] in {"Deployment", "Job"}
    )
    tls = {name for name in server if name.startswith("MOORAGE_TLS__")}
    assert {name: text for name, text in server.items() if name not in tls} == migration


@in_each_case
def test_services_and_policies_select_the_servers_alone(values: dict[str, Any]) -> None:
    objects = manifests(values)
    (workload,) = (one for one in objects if one["kind"] in {"StatefulSet", "Deployment"})
    labels = workload["spec"]["template"]["metadata"]["labels"]
    selectors = [workload["spec"]["selector"]["matchLabels"]]
    for one in objects:
        if one["kind"] == "Service":
            selectors.append(one["spec"]["selector"])
        elif one["kind"] in {"PodDisruptionBudget"}:
            selectors.append(one["spec"]["selector"]["matchLabels"])
        elif one["kind"] == "NetworkPolicy":
            selectors.append(one["spec"]["podSelector"]["matchLabels"])
    assert all(selector.items() <= labels.items() for selector in selectors)
    for other in objects:
        if other["kind"] == "Pod":
            assert not selectors[0].items() <= other["metadata"]["labels"].items()


def test_a_changed_setting_changes_the_pods() -> None:
    def checksum(values: dict[str, Any]) -> str:
        template = only("StatefulSet", values)["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    assert checksum({}) == checksum({"service": {"port": 81}})
    assert checksum({}) != checksum({"settings": {"MOORAGE_LOG_LEVEL": "debug"}})


def test_pods_get_the_time_that_draining_needs() -> None:
    pod = only("StatefulSet", EVERYTHING)["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 20 + 30
    pod = only("StatefulSet", {})["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 5 + 30


def test_probes_and_helm_test_ask_the_plain_listener_of_health() -> None:
    for values in (SINGLE, EVERYTHING):
        (container,) = only("StatefulSet", values)["spec"]["template"]["spec"]["containers"]
        asked = {
            name: container[f"{name}Probe"]["httpGet"]
            for name in ("startup", "liveness", "readiness")
        }
        assert {name: probe["path"] for name, probe in asked.items()} == {
            "startup": "/healthz",
            "liveness": "/healthz",
            "readiness": "/readyz",
        }
        assert {probe["port"] for probe in asked.values()} == {"metrics"}
        (test,) = (one for one in manifests(values) if one["kind"] == "Pod")
        assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
        url = test["spec"]["containers"][0]["args"][-1]
        names = {one["metadata"]["name"] for one in manifests(values) if one["kind"] == "Service"}
        assert re.fullmatch(r"http://(.+):9464", url)[1] in names  # type: ignore[index]


def test_rules_and_dashboards_are_the_files_beside_the_templates() -> None:
    objects = manifests(EVERYTHING)
    rules = [one["spec"] for one in objects if one["kind"] == "PrometheusRule"]
    files = sorted((CHART / "rules").glob("*.yaml"))
    assert rules == [yaml.safe_load(file.read_text()) for file in files]
    boards = {
        name: text
        for one in objects
        if one["kind"] == "ConfigMap" and "-dashboard-" in one["metadata"]["name"]
        for name, text in one["data"].items()
    }
    files = sorted((CHART / "dashboards").glob("*.json"))
    assert boards == {f"moorage-{file.name}": file.read_text() for file in files}


def test_prometheus_takes_the_rules_as_they_are_rendered(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    rules = [one for one in manifests(EVERYTHING) if one["kind"] == "PrometheusRule"]
    assert rules
    for one in rules:
        file = tmp_path / f"{one['metadata']['name']}.yaml"
        file.write_text(yaml.safe_dump(one["spec"]))
    command = ["promtool", "check", "rules", *map(str, tmp_path.glob("*.yaml"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


GUIDE = (CHART.parents[1] / "docs" / "operations" / "kubernetes.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
def test_the_values_of_the_guide_are_taken(block: str) -> None:
    values = yaml.safe_load(block)
    if "ingress" in values:
        values["ingress"] = {"enabled": True, "host": "moorage.example"} | values["ingress"]
    assert manifests(values)


def test_the_guide_makes_the_secret_that_the_chart_reads() -> None:
    keys = set(re.findall(r"--from-literal=([a-z0-9-]+)=", GUIDE))
    secrets = yaml.safe_load((CHART / "values.yaml").read_text())["secrets"]
    assert keys == {one["key"] for one in secrets.values()} - {"secrets-key-before"}
    values = dict(re.findall(r"--set ([A-Za-z.]+)=(\S+)", GUIDE))
    assert set(values) == {"image.repository", "persistence.size"}
    assert manifests(
        {
            "image": {"repository": values["image.repository"]},
            "persistence": {"size": values["persistence.size"]},
        }
    )


def names_of(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield every name of a value: "storage", "storage.s3", "storage.s3.endpoint"."""
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from names_of(value, f"{prefix}{key}.")


def test_every_value_that_the_guides_prose_names_exists() -> None:
    known = set(names_of(yaml.safe_load((CHART / "values.yaml").read_text())))
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", GUIDE)
    dotted = {n for n in spans if re.fullmatch(r"[a-z][A-Za-z]*(\.[A-Za-z0-9]+)+(: .*)?", n)}
    dotted = {name.partition(":")[0] for name in dotted} - {"values.yaml"}
    assert len(dotted) >= 8
    assert dotted - known == set()
    humped = {name for name in spans if re.fullmatch(r"[a-z]+[A-Z][A-Za-z]*", name)} - {"emptyDir"}
    assert {"extraVolumes", "metricsFrom"} <= humped
    assert humped - {name.rpartition(".")[2] for name in known} == set()


@pytest.mark.parametrize("text", re.findall(r"`([a-zA-Z]+: \{[^`]*\})`", GUIDE))
def test_the_values_of_the_guides_prose_are_taken(text: str) -> None:
    values = REPLICATED | yaml.safe_load(" ".join(text.split()))
    assert manifests(values)


@in_each_case
def test_notes_say_the_next_step(values: dict[str, Any]) -> None:
    notes = texts(values)["NOTES.txt"]
    workload = "deploy/moorage" if values.get("mode") else "statefulset/moorage"
    assert f"rollout status {workload}" in notes
    assert "helm -n go test moorage" in notes
    assert "moorage token create --platform" in notes
    assert "<no value>" not in "".join(texts(values).values())
    if "publicUrl" in values:
        assert "GOPROXY=https://moorage.example/goproxy/default" in notes


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"replicaCount": 3}, "additional properties 'replicaCount' not allowed"),
        ({"image": {"tagg": "1"}}, "at '/image': additional properties 'tagg' not allowed"),
        ({"mode": "replicted"}, "at '/mode': value must be one of 'single', 'replicated'"),
        ({"workers": "two"}, "at '/workers': got string, want integer"),
        ({"image": {"repository": "a", "digest": "sha256:1"}}, "at '/image/digest'"),
        ({"publicUrl": "http://m.example"}, "at '/publicUrl'"),
        ({"persistence": {"size": "100 GB"}}, "at '/persistence/size'"),
        ({"persistence": {"accessModes": ["ReadWriteMany"]}}, "'ReadWriteOnce'"),
        ({"settings": {"MOORAGE_RELEASES__SYNCS": 1}}, "'MOORAGE_RELEASES__SYNCS' not allowed"),
        (
            {"settings": {"MOORAGE_WORKERS": 4}},
            "settings.MOORAGE_WORKERS: use the value workers instead",
        ),
        (
            {"settings": {"MOORAGE_SECRETS_KEY": "x"}},
            "put it into the Secret that existingSecret names, under the key secrets-key",
        ),
        (
            {"extraEnv": [{"name": "MOORAGE_DATABASE_URL", "value": "postgresql://"}]},
            "use valueFrom.secretKeyRef",
        ),
        ({"mode": "replicated"}, 'set storage.url to "s3://bucket/prefix"'),
        (
            {"mode": "replicated", "storage": {"url": "s3://moorage"}},
            "set existingSecret to its name (or secrets.databaseUrl.name)",
        ),
        ({"storage": {"url": "s3://moorage"}}, "set mode: replicated"),
        ({"autoscaling": {"enabled": True}}, "set mode: replicated"),
        ({"ingress": {"enabled": True}}, "ingress.enabled needs ingress.host"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.enabled needs httpRoute.parentRefs"),
        ({"tls": {"clientCaSecret": "c"}}, "tls.clientCaSecret needs tls.existingSecret"),
        (
            REPLICATED | {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 2}},
            "autoscaling.maxReplicas is less than autoscaling.minReplicas",
        ),
    ],
)
def test_wrong_values_are_refused_with_what_to_do(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(Exception, match=re.escape(reason)):
        texts(values)


def test_every_secret_setting_is_refused_in_values() -> None:
    for name in SECRETS:
        for values in ({"settings": {name: "x"}}, {"extraEnv": [{"name": name, "value": "x"}]}):
            with pytest.raises(Exception, match=f"{name} is a secret"):
                texts(values)


def objects_of(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each schema of an object with names of its own, and where it is."""
    if "properties" in schema:
        yield path, schema
        for name, inner in schema["properties"].items():
            yield from objects_of(inner, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from objects_of(schema["items"], f"{path}[]")


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads(SCHEMA.read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
    for path, inner in objects_of(schema):
        assert inner["additionalProperties"] is False, path
        at: Any = values
        for name in path.split(".")[1:]:
            at = at.get(name, {}) if isinstance(at, dict) and "[]" not in path else {}
        assert set(at) <= set(inner["properties"]), path


def test_the_schema_knows_every_setting() -> None:
    message = "run .venv/bin/python charts/build.py --schema"
    assert SCHEMA.read_text() == written_schema(), message


def test_the_chart_has_the_version_of_the_program() -> None:
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == project["version"]
