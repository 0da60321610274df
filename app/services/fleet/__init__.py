"""Fleets: channels, rollouts and nodes, and the program that nodes run.

Stands above `releases`, and imports no other group but shared mechanisms.

`channels` are the use cases about channels; `revisions` writes a revision within a transaction,
`manifests` signs it, and signs it anew daily. What requests read of channels is `offered`.
"""
