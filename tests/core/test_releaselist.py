from datetime import date

import pytest

from app.core.gorelease import Release
from app.core.releaselist import render_history, render_refs, render_version


def releases(*versions: str) -> list[Release]:
    return [Release(v, "rc" not in v, ()) for v in versions]


def test_the_version_is_the_newest_stable_release_and_its_time_where_it_is_known() -> None:
    names = releases("go1.27.0", "go1.28rc1", "go1.27.1", "go1.26.9")
    assert render_version(names, {}) == b"go1.27.1\n"
    times = {"go1.27.1": "2026-09-02T16:08:31Z", "go1.27.0": "2026-08-11T00:00:00Z"}
    assert render_version(names, times) == b"go1.27.1\ntime 2026-09-02T16:08:31Z\n"
    assert render_version(releases("go1.28rc1"), {}) is None


def test_the_history_has_the_final_releases_newest_first() -> None:
    versions = ("go1.9.2rc2", "go1.20", "go1.28rc1", "go1.27.1", "go1.21", "go1", "go1.4.3")
    dates = dict.fromkeys(versions, date(2026, 9, 2))
    text = render_history(releases(*versions), dates).decode()
    assert text.startswith("package history\n\nvar Releases = []*Release{\n\t{\n")
    assert text.endswith("\t},\n}\n")
    numbers = [line.strip() for line in text.splitlines() if "Version" in line]
    assert numbers == [
        "Version: Version{1, 27, 1},",
        "Version: Version{1, 20, 0},",
        "Version: Version{1, 4, 3},",
        "Version: Version{1, 0, 0},",
    ]
    assert text.count("\t\tDate: Date{2026, 9, 2},\n") == 4


@pytest.mark.parametrize("versions", [(), ("go1.27.1",), ("go1.27.1", "go1.100rc1", "go1.26.0")])
def test_the_refs_are_tags_in_order_with_an_id_each(versions: tuple[str, ...]) -> None:
    plain = render_refs(releases(*versions), smart=False).decode()
    lines = [line.split("\t") for line in plain.splitlines()]
    assert [ref for _, ref in lines] == sorted(f"refs/tags/{v}" for v in versions)
    ids = {object_id for object_id, _ in lines}
    assert len(ids) == len(versions)
    assert all(len(object_id) == 40 and int(object_id, 16) for object_id in ids)


def test_the_smart_form_is_packets_with_capabilities_behind_the_first_ref() -> None:
    data = render_refs(releases("go1.27.1", "go1.26.0"), smart=True)
    packets = packets_of(data)
    assert packets[:2] == [b"# service=git-upload-pack\n", None]
    assert packets[-1] is None
    first, second = (packet.rstrip(b"\n") for packet in packets[2:-1] if packet)
    assert first.endswith(b" refs/tags/go1.26.0\0object-format=sha1 agent=moorage")
    assert second.endswith(b" refs/tags/go1.27.1")
    plain = render_refs(releases("go1.27.1", "go1.26.0"), smart=False)
    assert first[:40] + b"\t" in plain
    empty = packets_of(render_refs([], smart=True))[2]
    assert empty is not None
    assert empty.startswith(b"0" * 40 + b" capabilities^{}\0")


def packets_of(data: bytes) -> list[bytes | None]:
    """Return the packets of pkt-lines, None for a flush."""
    packets: list[bytes | None] = []
    while data:
        size = int(data[:4], 16)
        packets.append(data[4:size] if size else None)
        data = data[max(size, 4) :]
    return packets
