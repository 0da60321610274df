"""The chart as Helm renders it, without a cluster and without Helm's program."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

CHART = Path(__file__).parents[2] / "charts" / "moorage"
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
    """Return every rendered object."""
    return [
        document
        for name, text in texts(values, **more).items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
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
