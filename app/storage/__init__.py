"""Where bytes are kept, addressed by their SHA-256.

Knows digests and files; never names, rows or HTTP.
"""
