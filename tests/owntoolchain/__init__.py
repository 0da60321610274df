"""A toolchain of one's own, built from Go's source; run by `make test-own-toolchain`."""
