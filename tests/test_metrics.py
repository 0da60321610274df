"""Metrics: names, labels, and one sum over all processes."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import __version__, metrics
from app.metrics import hotpath, scrape
from app.metrics.meters import meters

CONTRACT = {
    "moorage_build_info": ("gauge", {"version"}),
    "moorage_tls_certificate_expiry_timestamp_seconds": ("gauge", set()),
    "moorage_backup_last_completed_timestamp_seconds": ("gauge", {"store"}),
    "moorage_module_publications": ("counter", {"outcome"}),
    "moorage_http_requests": ("counter", {"surface", "method", "status"}),
    "moorage_http_response_bytes": ("counter", {"surface"}),
    "moorage_http_streams": ("gauge", set()),
    "moorage_hot_cache": ("counter", {"result"}),
    "moorage_hit_seconds": ("histogram", {"surface"}),
    "moorage_event_loop_lag_seconds": ("histogram", set()),
    "moorage_upstream_requests": ("counter", {"origin", "outcome"}),
    "moorage_upstream_request_seconds": ("histogram", set()),
    "moorage_upstream_breaker_open": ("gauge", {"origin"}),
    "moorage_releases_files": ("gauge", {"state"}),
    "moorage_channel_manifests_expiry_timestamp_seconds": ("gauge", set()),
    "moorage_release_ingestions": ("counter", {"outcome"}),
    "moorage_release_ingestion_seconds": ("histogram", set()),
    "moorage_index_refresh": ("counter", {"outcome"}),
    "moorage_index_age_seconds": ("gauge", set()),
    "moorage_database_seconds": ("histogram", {"kind"}),
    "moorage_index_refresh_interval_seconds": ("gauge", set()),
    "moorage_tenant_requests": ("counter", {"tenant", "outcome"}),
    "moorage_tenant_response_bytes": ("counter", {"tenant"}),
    "moorage_index_skipped": ("counter", {"key"}),
    "moorage_index_conflicts": ("counter", set()),
    "moorage_authorizations": ("counter", {"outcome"}),
    "moorage_blobs_damaged": ("counter", set()),
    "moorage_module_conflicts": ("counter", set()),
    "moorage_module_fetches": ("counter", {"kind", "outcome"}),
    "moorage_sumdb_refusals": ("counter", set()),
    "moorage_storage_free_bytes": ("gauge", set()),
    "moorage_gc_blobs": ("counter", {"what"}),
    "moorage_gc_freed_bytes": ("counter", set()),
    "moorage_notes": ("gauge", {"about"}),
    "moorage_sumdb_logs_refusing": ("gauge", set()),
    "moorage_fleet_nodes": ("gauge", {"channel", "state"}),
    "moorage_fleet_declining_nodes": ("gauge", {"channel"}),
    "moorage_fleet_check_ins": ("counter", {"action"}),
    "moorage_fleet_reports": ("counter", {"channel", "event"}),
    "moorage_fleet_grants": ("counter", {"channel", "outcome"}),
    "moorage_fleet_rollout_changes": ("counter", {"channel", "change"}),
    "moorage_webhooks": ("counter", {"result"}),
    "moorage_trace_spans": ("counter", {"result"}),
}


def value(name: str, **labels: str) -> float:
    hotpath.flush()
    return meters().registry.get_sample_value(name, labels) or 0.0


def test_a_hit_is_counted_in_all_its_metrics_and_its_bucket() -> None:
    hotpath.flush()
    label = {"surface": "downloads"}
    names = (
        ("moorage_http_requests_total", {**label, "method": "GET", "status": "200"}),
        ("moorage_http_response_bytes_total", label),
        ("moorage_hot_cache_total", {"result": "hit"}),
        ("moorage_hit_seconds_count", label),
        ("moorage_hit_seconds_bucket", {**label, "le": "0.001"}),
        ("moorage_hit_seconds_bucket", {**label, "le": "0.05"}),
        ("moorage_hit_seconds_bucket", {**label, "le": "+Inf"}),
    )
    before = [value(name, **labels) for name, labels in names]
    for age_s in (0.0, 0.0, 0.04, 0.3):
        hotpath.count_instant("downloads", "", 10, time.monotonic() - age_s)
    hotpath.observe_hit("downloads", 100.0)
    after = [value(name, **labels) for name, labels in names]
    assert [round(b - a) for a, b in zip(before, after, strict=True)] == [4, 40, 4, 5, 2, 3, 5]
    assert value("moorage_hit_seconds_sum", **label) >= 100.34


def test_times_of_the_database_wait_for_the_flush_and_land_in_their_buckets() -> None:
    hotpath.flush()
    names = [("_count", {}), *(("_bucket", {"le": le}) for le in ("0.001", "0.05", "15.0", "+Inf"))]

    def values() -> list[float]:
        get = meters().registry.get_sample_value
        named = [f"moorage_database_seconds{suffix}" for suffix, _ in names]
        labels = [{"kind": "read", **more} for _, more in names]
        return [get(n, of) or 0.0 for n, of in zip(named, labels, strict=True)]

    before = values()
    for seconds in (0.0, 0.001, 0.0011, 0.05, 15.0, 15.1):
        hotpath.observe_database("read", seconds)
    assert values() == before
    hotpath.flush()
    assert [a - b for a, b in zip(values(), before, strict=True)] == [6, 2, 4, 5, 6]


def use_every_metric() -> None:
    hotpath.count_request("downloads", "GET", 200, 10)
    metrics.set_streams(2)
    hotpath.count_hot(hit=True)
    hotpath.count_instant("downloads", "", 10, time.monotonic())
    metrics.observe_loop_lag(0.002)
    hotpath.observe_database("read", 0.002)
    metrics.set_refresh_interval(3600)
    metrics.observe_upstream("https://go.dev", "ok", 0.2)
    metrics.set_breaker("https://go.dev", is_open=True)
    metrics.set_files({"verified": 3, "known": 0})
    metrics.observe_ingestion("verified", 2.0)
    metrics.count_index_refresh("accepted")
    metrics.set_index_refreshed(1000.0)
    metrics.count_index_skipped("kind", 3)
    metrics.set_certificate_expiry(2000.0)
    metrics.set_backup("s3", 1000.0)
    metrics.count_publication("published")
    metrics.count_index_conflict()
    metrics.count_blob_damaged()
    metrics.set_storage_free(1 << 30)
    metrics.set_notes({"clock": False})
    metrics.count_garbage(condemned=2, deleted=1, freed_bytes=10)
    metrics.set_refusing_logs(0)
    metrics.set_nodes({("stable", "current"): 3}, {"stable": 1})
    hotpath.count_check_in("stay")
    metrics.count_node_event("stable", "failed")
    metrics.count_grant("stable", "out")
    metrics.count_rollout_change("stable", "rollout.halt")
    metrics.count_webhook(delivered=True)
    metrics.count_spans(2, sent=True)
    hotpath.flush()


def test_the_exposition_has_the_names_types_and_labels_of_the_contract():
    use_every_metric()
    text = scrape.render(lambda: 1060.0).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == set(CONTRACT)
    for name, (kind, labels) in CONTRACT.items():
        assert families[name].type == kind
        assert families[name].documentation.endswith(".")
        for sample in families[name].samples:
            assert set(sample.labels) - {"le"} == labels
    assert f'moorage_build_info{{version="{__version__}"}} 1.0\n' in text
    assert "moorage_index_age_seconds 60.0\n" in text


def test_the_content_type_is_that_of_the_library():
    from prometheus_client import CONTENT_TYPE_LATEST

    assert scrape.CONTENT_TYPE == CONTENT_TYPE_LATEST


def test_a_request_counts_once_with_its_body_bytes():
    labels = {"surface": "goproxy", "method": "GET", "status": "206"}
    before = value("moorage_http_requests_total", **labels)
    bytes_before = value("moorage_http_response_bytes_total", surface="goproxy")
    hotpath.count_request("goproxy", "GET", 206, 1000)
    hotpath.count_request("goproxy", "GET", 206, 24)
    assert value("moorage_http_requests_total", **labels) == before + 2
    assert value("moorage_http_response_bytes_total", surface="goproxy") == bytes_before + 1024


def test_methods_that_a_client_invents_share_one_label():
    for method in ("BREW", "get", "\x1b[2J"):
        hotpath.count_request("invented", method, 405, 0)
    labels = {"surface": "invented", "method": "other", "status": "405"}
    assert value("moorage_http_requests_total", **labels) == 3
    assert b"BREW" not in scrape.render()


def test_a_refusal_of_the_breaker_is_an_outcome_without_length():
    before = value("moorage_upstream_request_seconds_count")
    metrics.observe_upstream("https://a", "open", 0.0)
    assert value("moorage_upstream_request_seconds_count") == before
    assert value("moorage_upstream_requests_total", origin="https://a", outcome="open") == 1


def test_an_index_that_was_never_read_has_no_age_and_no_age_is_negative():
    metrics.set_index_refreshed(0.0)
    assert b"\nmoorage_index_age_seconds " not in scrape.render()
    metrics.set_index_refreshed(2000.0)
    assert b"\nmoorage_index_age_seconds 0.0\n" in scrape.render(lambda: 1000.0)


def test_metrics_of_one_process_are_forgotten_nowhere():
    metrics.set_streams(2)
    scrape.forget_process(os.getpid())
    assert value("moorage_http_streams") == 2


def test_sharing_is_refused_once_metrics_were_used(tmp_path):
    meters()
    with pytest.raises(RuntimeError, match="before prepare_multiprocess"):
        scrape.prepare_multiprocess(tmp_path)


def test_importing_the_module_does_not_import_prometheus():
    run("import sys; from app import metrics; assert 'prometheus_client' not in sys.modules")


def test_a_database_that_is_used_before_the_workers_start_does_not_import_prometheus():
    run(
        "import sys; from app.metrics import hotpath; hotpath.observe_database('read', 0.1);"
        "assert 'prometheus_client' not in sys.modules"
    )


def test_preparing_removes_values_of_an_earlier_run_and_nothing_else(tmp_path):
    stale = ["counter_17.db", "gauge_livesum_17.db", "histogram_18.db", "gauge_mostrecent_1.db"]
    kept = ["moorage.db", "counter_x.db", "counter_17.db.bak"]
    for name in stale + kept:
        (tmp_path / name).touch()
    run(f"from app.metrics import scrape; scrape.prepare_multiprocess({PATH})", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_processes_share_their_metrics_and_a_dead_one_leaves_its_counts_alone(tmp_path):
    output = run(
        f"""
        import subprocess, sys
        from app.metrics import scrape
        scrape.prepare_multiprocess({PATH} / "new")
        worker = '''
        import os
        from app import metrics
        from app.metrics import hotpath
        hotpath.count_request("downloads", "GET", 200, 10)
        metrics.set_streams(2)
        hotpath.flush()
        metrics.set_breaker("https://go.dev", is_open=True)
        metrics.set_storage_free(7)
        metrics.set_index_refreshed(1000.0)
        metrics.observe_ingestion("verified", 2.0)
        print(os.getpid())
        '''
        worker = "\\n".join(line.strip() for line in worker.splitlines())
        command = [sys.executable, "-c", worker]
        pids = [
            int(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(2)
        ]
        def show():
            for line in scrape.render(lambda: 1060.0).decode().splitlines():
                if not line.startswith("#") and not line.endswith(" 0.0"):
                    print(line)
        show()
        for pid in pids:
            scrape.forget_process(pid)
        print("--")
        show()
        """,
        tmp_path,
    )
    alive, dead = (part.splitlines() for part in output.split("--\n"))
    counts = {
        'moorage_http_requests_total{method="GET",status="200",surface="downloads"} 2.0',
        'moorage_http_response_bytes_total{surface="downloads"} 20.0',
        "moorage_release_ingestion_seconds_count 2.0",
        "moorage_storage_free_bytes 7.0",
        "moorage_index_age_seconds 60.0",
        f'moorage_build_info{{version="{__version__}"}} 1.0',
    }
    doing = {
        "moorage_http_streams 4.0",
        'moorage_upstream_breaker_open{origin="https://go.dev"} 1.0',
    }
    assert counts | doing <= set(alive)
    assert counts <= set(dead)
    assert not doing & set(dead)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


PATH = "__import__('pathlib').Path(__import__('sys').argv[1])"


def run(script: str, *arguments: Path) -> str:
    """Run a script in a process of its own: prometheus_client chooses once in a process."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
