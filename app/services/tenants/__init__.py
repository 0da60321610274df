"""Tenants: what admins decide.

`tenants`, `rules`, `routes`, `ownership` and `credentials` are the use cases about one noun each;
`document` applies a whole file, by a `plan` of what differs from the `snapshot` of the present.
`checks` holds what a noun can't check alone, `edits` writes changes with their audit rows.
`explain` tells what would be decided and why. What requests read of all this is
`services/policy.py`; who may do what is `services/authorization.py`.
"""
