"""Tenants: what admins decide, held in memory for each generation, and the one choke point.

`policy` is what requests read; `authorization` decides; `drafts` checks what admins write;
`tenants`, `rules`, `routes`, `ownership` and `credentials` change state, `document` applies a whole
file, `explain` tells what would be decided and why.
"""
