"""Use cases: each public method owns its transaction and the order of effects.

Takes its collaborators in the constructor and returns values of `core`, never rows.

Groups, each of which imports only those before it:

    files of this folder   mechanisms that groups share: flight, slots, leases, generation,
                           upstreams, secrets, repair; the policy, and who may do what
                           (authorization)
    releases               the release mirror
    publiclog, tenantlog   checksum databases: public ones relayed, and the tenants' own
    modules                what the `go` command asks a tenant for
    sumdb                  what it asks a checksum database for
    tenants                what admins change, apply and have explained
    fsck, tokens           files of this folder: the check of everything stored; tokens

A contract in pyproject.toml holds the order. A new file or group needs a place in it.
"""
