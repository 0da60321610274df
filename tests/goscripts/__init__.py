"""Go's own script tests, run with Moorage between the go command and Go's test proxy.

Opt in: `make test-go-scripts`. pytest tests only what the comparison is made of.
"""
