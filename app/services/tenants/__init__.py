"""Tenants: what admins decide.

`drafts` checks what admins write; `tenants`, `rules`, `routes`, `ownership` and `credentials`
change state, `document` applies a whole file, `explain` tells what would be decided and why. What
requests read of it is `services/policy.py`; who may do what is `services/authorization.py`.
"""
