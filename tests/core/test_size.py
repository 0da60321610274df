import pytest

from app.core.size import human_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1048575, "1.0 MiB"),
        (73_400_320, "70.0 MiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 70, "1048576.0 PiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_sizes_for_people(count, text):
    assert human_bytes(count) == text
