"""HTTP: parse the request, call one service, render the answer.

The Go-facing routes are plain ASGI (the hot path); the admin API is FastAPI.
"""
