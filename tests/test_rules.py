"""Prometheus rules and dashboards of the chart: promtool parses and tests them, and they are true.

Every alert is seen firing and not firing, has a runbook, and names metrics that exist. Every
expression of a dashboard parses, and names metrics that exist.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_metrics import CONTRACT

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "moorage"
RULES = sorted((CHART / "rules").glob("*.yaml"))
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
# promtool knows neither a dashboard's variables nor its range.
VARIABLES = {"$job": ".*", "$tenant": ".*", "$channel": ".*", "$__rate_interval": "5m",
             "$__range": "1h"}  # fmt: skip

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)

Series = dict[str, str]
GO = "moorage_http_requests_total{job='m',surface='goproxy',status='%s'}"
HITS = "moorage_hit_seconds_%s"
GOOD, BAD = {GO % 200: "0+1000x%d"}, {GO % 200: "0+900x%d", GO % 503: "0+100x%d"}
FAST_HITS = {HITS % "bucket{job='m',le='0.05'}": "0+999x%d", HITS % "count{job='m'}": "0+1000x%d"}
SLOW_HITS = {HITS % "bucket{job='m',le='0.05'}": "0+500x%d", HITS % "count{job='m'}": "0+1000x%d"}
AGE, EVERY = "moorage_index_age_seconds{job='m'}", "moorage_index_refresh_interval_seconds{job='m'}"
FRESH, STALE = {AGE: "100+0x%d", EVERY: "3600+0x%d"}, {AGE: "20000+0x%d", EVERY: "3600+0x%d"}
NEVER_READ = {EVERY: "3600+0x%d"}
EXPIRY = "moorage_channel_manifests_expiry_timestamp_seconds{job='m'}"
SIGNED, UNSIGNED = {EXPIRY: "9000000+0x%d"}, {EXPIRY: "600000+0x%d"}
NO_CHANNEL = {EXPIRY: "+Inf+0x%d"}


def counter(name: str) -> tuple[Series, Series]:
    """Return a counter that grows once, and one that stays."""
    return {name: "0+0x10 1+0x50"}, {name: "5+0x60"}


def appearing(name: str) -> tuple[Series, Series]:
    """Return a counter that appears with its first event, and one that stays."""
    return {name: "_x30 1+0x30"}, {name: "5+0x3000"}


def gauge(name: str, bad: str = "1", good: str = "0") -> tuple[Series, Series]:
    return {name: f"{bad}+0x3000"}, {name: f"{good}+0x3000"}


def rates(good: str, bad: str) -> tuple[Series, Series]:
    """Return two counters of which the bad one grows faster, and two of which it does not."""
    return {good: "0+10x120", bad: "0+90x120"}, {good: "0+99x120", bad: "0+1x120"}


LAG = "moorage_event_loop_lag_seconds_%s"
CASES: dict[str, tuple[Series, Series, str]] = {
    "MoorageAbsent": ({"up{job='m'}": "0+0x60"}, {"moorage_build_info{job='m'}": "1+0x60"}, "50m"),
    "MoorageNote": (*gauge("moorage_notes{job='m',about='clock'}"), "50m"),
    "MoorageIndexConflict": (*counter("moorage_index_conflicts_total{job='m'}"), "50m"),
    "MoorageIndexEntriesSkipped": (*appearing("moorage_index_skipped_total{key='files'}"), "50m"),
    "MoorageReleaseQuarantined": (
        *gauge("moorage_releases_files{job='m',state='quarantined'}"), "50m"
    ),
    "MoorageSignaturePending": (
        *gauge("moorage_releases_files{job='m',state='pending-signature'}"), "1500m"
    ),
    "MoorageIngestionsFail": (
        *rates("moorage_release_ingestions_total{job='m',outcome='verified'}",
               "moorage_release_ingestions_total{job='m',outcome='UpstreamError'}"), "90m"
    ),
    "MoorageBlobDamaged": (*counter("moorage_blobs_damaged_total{job='m'}"), "50m"),
    "MoorageModuleContradicted": (*counter("moorage_module_conflicts_total{job='m'}"), "50m"),
    "MoorageSumdbRefused": (*counter("moorage_sumdb_refusals_total{job='m'}"), "50m"),
    "MoorageLogRefusesToGrow": (*gauge("moorage_sumdb_logs_refusing{job='m'}"), "50m"),
    "MoorageModuleFetchesFail": (
        *rates("moorage_module_fetches_total{job='m',kind='zip',outcome='ok'}",
               "moorage_module_fetches_total{job='m',kind='zip',outcome='UpstreamError'}"), "90m"
    ),
    "MoorageUpstreamLeftAlone": (
        *gauge("moorage_upstream_breaker_open{job='m',origin='https://go.dev'}"), "50m"
    ),
    "MoorageDenialsRise": (
        *rates("moorage_tenant_requests_total{job='m',tenant='a',outcome='allowed'}",
               "moorage_tenant_requests_total{job='m',tenant='a',outcome='denied'}"), "90m"
    ),
    "MoorageRolloutStopped": (
        *appearing("moorage_fleet_rollout_changes_total{channel='c',change='rollout.halt'}"), "50m"
    ),
    "MoorageNodesNeedSomebody": (
        *gauge("moorage_fleet_nodes{job='m',channel='c',state='held'}"), "50m"
    ),
    "MoorageWebhookFails": (*appearing("moorage_webhooks_total{result='failed'}"), "50m"),
    "MoorageDiskFull": (*appearing("moorage_http_requests_total{status='507'}"), "40m"),
    "MoorageDiskFillsUp": (
        {"moorage_storage_free_bytes{instance='i'}": "1000000-1000x480"},
        {"moorage_storage_free_bytes{instance='i'}": "1000000-100x480"}, "470m"
    ),
    "MoorageEventLoopLate": (
        {LAG % "bucket{job='m',instance='i',le='0.25'}": "0+40x60",
         LAG % "count{job='m',instance='i'}": "0+60x60"},
        {LAG % "bucket{job='m',instance='i',le='0.25'}": "0+60x60",
         LAG % "count{job='m',instance='i'}": "0+60x60"}, "50m"
    ),
    "MoorageDatabaseSlow": (
        *gauge("moorage:database_seconds:p99_5m{job='m',kind='write'}", "2", "0.5"), "50m"
    ),
    "MoorageCertificateExpires": (
        *gauge("moorage_tls_certificate_expiry_timestamp_seconds{job='m'}", "90000", "0"), "50m"
    ),
    # promtool's time begins at 0: seconds since then are the age of a backup of that moment.
    "MoorageBackupOld": (
        *gauge("moorage_backup_last_completed_timestamp_seconds{job='m',store='s3'}", "0", "86400"),
        "50h",
    ),
    "MoorageTracesLost": (
        {"moorage_trace_spans_total{result='lost'}": "0+1x60"},
        {"moorage_trace_spans_total{result='lost'}": "7+0x60"}, "55m",
    ),
}  # fmt: skip
# When a cause has not lasted for as long as its alert says.
NOT_YET = {"MoorageSignaturePending": "1400m"}
# Of each objective: what burns its budget, and what does not.
OBJECTIVES: dict[str, tuple[list[Series], list[Series]]] = {
    "Availability": ([BAD], [GOOD]),
    "HitTime": ([SLOW_HITS], [FAST_HITS]),
    "IndexFreshness": ([STALE, NEVER_READ], [FRESH]),
    "ChannelFreshness": ([UNSIGNED], [SIGNED, NO_CHANNEL]),
}


@cache
def rules() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_promtool_accepts_every_rule() -> None:
    promtool("check", "rules", *RULES)


def run_tests(folder: Path, files: list[Path], every: str, tests: list[dict[str, Any]]) -> None:
    file = folder / "alerts.yaml"
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    document = {
        "rule_files": [str(path) for path in files],
        "evaluation_interval": every,
        # Else a rule may read what a recording rule wrote an interval ago, and finds nothing.
        "group_eval_order": [group["name"] for group in groups],
    }
    file.write_text(json.dumps({**document, "tests": tests}))
    promtool("test", "rules", file)


def a_test(series: Series, expression: str, at: str, samples: list[str], each: str) -> Any:
    return {
        "interval": each,
        "input_series": [{"series": s, "values": v} for s, v in series.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": at,
                "exp_samples": [{"labels": labels, "value": 1} for labels in samples],
            }
        ],
    }


def rules_of(folder: Path, names: list[str]) -> Path:
    """Write a file with the rules of these alerts alone.

    promtool evaluates every rule of its files every five minutes: for the tests that last days, the
    rules that they are not about took most of the time.
    """
    file = folder / "rules.yaml"
    groups = [{"name": "alone", "rules": [alerts()[name] for name in names]}]
    file.write_text(json.dumps({"groups": groups}))
    return file


LASTING = ["MoorageIndexEntriesSkipped", "MoorageSignaturePending", "MoorageDiskFillsUp",
           "MoorageBackupOld"]  # fmt: skip


@needs_promtool
@pytest.mark.parametrize("is_lasting", [False, True], ids=["hours", "days"])
def test_every_alert_on_a_cause_fires_when_it_should_and_only_then(
    tmp_path: Path, is_lasting: bool
) -> None:
    tests = []
    for name in (name for name in CASES if (name in LASTING) is is_lasting):
        bad, good, at = CASES[name]
        firing = f'count(ALERTS{{alertname="{name}", alertstate="firing"}})'
        tests.append(a_test(bad, firing, at, ["{}"], "1m"))
        if name in NOT_YET:
            tests.append(a_test(bad, firing, NOT_YET[name], [], "1m"))
        # A series that is new to Prometheus counts as one that appeared, until its window is over.
        appears = any("_x" in values for values in bad.values())
        window = 1500 if "[1d]" in alerts()[name]["expr"] else 95
        later = f"{window}m" if appears else at
        tests.append(a_test(good, firing, later, [], "1m"))
    file = rules_of(tmp_path, LASTING) if is_lasting else CHART / "rules" / "alerts.yaml"
    run_tests(tmp_path, [file], "5m", tests)


@needs_promtool
@pytest.mark.parametrize(
    ("speed", "each", "at"), [("Fast", 1, 70), ("Slow", 5, 400), ("Creeping", 30, 4500)]
)
def test_every_burn_rate_fires_when_it_should_and_only_then(
    tmp_path: Path, speed: str, each: int, at: int
) -> None:
    series: Series = {}
    firing = []
    for objective, (burning, lasting) in OBJECTIVES.items():
        for number, of in enumerate((*burning, *lasting)):
            job = f"{objective}{number}"
            for name, form in of.items():
                series[name.replace("job='m'", f"job='{job}'")] = form % (at // each + 10)
            if number < len(burning):
                name = f"Moorage{objective}Burns{speed}"
                firing.append(f'{{alertname="{name}", job="{job}"}}')
    expression = f'count by (alertname, job) (ALERTS{{alertname=~".*{speed}",alertstate="firing"}})'
    test = a_test(series, expression, f"{at}m", firing, f"{each}m")
    files = [CHART / "rules" / name for name in ("recording.yaml", "objectives.yaml")]
    run_tests(tmp_path, files, f"{each}m", [test])


def test_every_alert_is_tested() -> None:
    burns = {f"Moorage{o}Burns{s}" for o in OBJECTIVES for s in ("Fast", "Slow", "Creeping")}
    assert burns | set(CASES) == set(alerts())


@pytest.mark.parametrize("name", sorted(alerts()))
def test_every_alert_has_a_runbook(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in ("page", "ticket", "info")
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings]


def panels() -> Iterator[tuple[str, str, str]]:
    """Yield dashboard, panel and expression."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield path.stem, panel["title"], target["expr"]


def resolved(expression: str) -> str:
    for name, text in VARIABLES.items():
        expression = expression.replace(name, text)
    assert "$" not in expression, expression
    return expression


def test_the_dashboards_are_the_promised_ones() -> None:
    assert [path.stem for path in DASHBOARDS] == ["fleet", "modules", "overview", "storage"]
    uids = [json.loads(path.read_text())["uid"] for path in DASHBOARDS]
    assert len(set(uids)) == len(uids)


@needs_promtool
def test_every_expression_of_a_dashboard_parses(tmp_path: Path) -> None:
    made = [
        {"record": f"panel:p{number}", "expr": resolved(expression)}
        for number, (_, _, expression) in enumerate(panels())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": made}]}))
    assert f"{len(made)} rules found" in promtool("check", "rules", file)


def metric_labels() -> dict[str, set[str]]:
    """Return the labels of each series that can be scraped, by name."""
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}
    return {
        f"{name}{suffix}": labels | {"job", "instance"} | ({"le"} if suffix == "_bucket" else set())
        for name, (kind, labels) in CONTRACT.items()
        for suffix in suffixes[kind]
    }


def test_rules_and_dashboards_name_only_metrics_and_labels_that_exist() -> None:
    exist = metric_labels()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    texts = [rule["expr"] for rule in rules()] + [expression for _, _, expression in panels()]
    named = {name for text in texts for name in re.findall(r"moorage[_:][a-z0-9_:]+", text)}
    assert named - set(exist) == recorded
    for name, matchers in re.findall(r"(moorage_[a-z0-9_]+)\{([^}]*)\}", "\n".join(texts)):
        assert set(re.findall(r"([a-z]+)[=!]", re.sub(r'"[^"]*"', "", matchers))) <= exist[name]
