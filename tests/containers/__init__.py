"""Clients of container images against a whole installation; run by `make test-containers`."""
