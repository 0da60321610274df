"""Use cases: each public method owns its transaction and the order of effects.

Takes its collaborators in the constructor and returns values of `core`, never rows.

Groups, each of which imports only those before it:

    files of this folder   mechanisms that groups share: flight, slots, memory, leases, generation,
                           upstreams, secrets, repair; the policy, and who may do what
                           (authorization)
    releases               the release mirror
    publiclog, tenantlog   checksum databases: public ones relayed, and the tenants' own
    fleet                  channels: what nodes and CI are to run
    modules                answers to the `go` command's GOPROXY requests
    sumdb                  answers to its requests for checksum databases
    tenants                changes by admins, `apply`, `explain`
    fsck, tokens           files of this folder: the check of all stored data; tokens

A contract in pyproject.toml holds the order. A new file or group needs a place in it.
"""
