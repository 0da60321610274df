"""Modules: what a tenant's `go` command asks for, from the store or from upstream.

`front` answers a request; `files` brings in what never changes, `answers` keeps what does, `checks`
says whether upstream's bytes are what they should be; `troubles` words upstream's failures,
`healing` fetches damaged zips again.
"""
