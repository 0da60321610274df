"""What a host name may be, and the ports that a URL need not name."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST_NAME = rf"{_LABEL}(?:\.{_LABEL})*"
"""The pattern of a lower-case DNS name of any length: "cdn.example", "my_host".

Underscores are no letters of host names (RFC 1123), but names inside companies have them.
"""

DEFAULT_PORTS = {"http": 80, "https": 443}
