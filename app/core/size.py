"""Sizes for people."""

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def human_bytes(count: int) -> str:
    """Return a size for people, in powers of 1024: 999 → "999 B", 1536 → "1.5 KiB"."""
    if abs(count) < 1024:
        return f"{count} B"
    size = float(count)
    for unit in _UNITS:
        size /= 1024
        # From 1023.95 on the text would be "1024.0"; the next unit gives "1.0".
        if abs(size) < 1023.95 or unit == _UNITS[-1]:
            return f"{size:.1f} {unit}"
    raise AssertionError("the last unit takes every size")
