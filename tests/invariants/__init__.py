"""The twelve invariants of the product, each through the whole application in both shapes."""
