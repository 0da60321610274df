"""The admin API: FastAPI routes that parse, call one service method and render.

Errors are problem+json (RFC 9457), lists are cursor pages.
"""
