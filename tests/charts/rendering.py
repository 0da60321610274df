"""The chart as Helm renders it, without a cluster and without Helm's program."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

CHART = Path(__file__).parents[2] / "charts" / "moorage"
# Written in C, ten times as fast, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
REPLICATED: dict[str, Any] = {
    "mode": "replicated",
    "existingSecret": "moorage-secrets",
    "storage": {"url": "s3://moorage/prod"},
}


@cache
def _chart() -> Chart:
    return Chart.load(CHART)


def texts(values: dict[str, Any], **more: Any) -> dict[str, str]:
    """Return what each template renders to, by its file's name: {"service.yaml": "apiVersion…"}.

    Raises:
        HelmError: values are refused.
    """
    rendered = _chart().render(values, name="moorage", namespace="go", **more)
    return {path.removeprefix("moorage/templates/"): text for path, text in rendered.items()}


def manifests(values: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Return every rendered object; each caller gets the same, so none may change one."""
    return list(_manifests(json.dumps(values), json.dumps(more)))


@cache
def _manifests(values: str, more: str) -> list[dict[str, Any]]:
    return [
        document
        for name, text in texts(json.loads(values), **json.loads(more)).items()
        if name.endswith(".yaml")
        for document in yaml.load_all(text, _LOADER)
        if document is not None
    ]


def only(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the one rendered object of a kind."""
    (one,) = (each for each in manifests(values) if each["kind"] == kind)
    return one


def pods(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the spec of each pod that the chart's objects make."""
    specs = []
    for one in manifests(values):
        if one["kind"] == "Pod":
            specs.append(one["spec"])
        elif "template" in one.get("spec", {}):
            specs.append(one["spec"]["template"]["spec"])
    return specs
