"""Modules: what a tenant's `go` command asks for, from the store or from upstream.

`front` answers a request, with `caller` for who asks and `walk` for the upstreams of a route;
`mirrored` answers for golang.org/toolchain, whose files `toolchains` builds. `files` brings in what
never changes, through `spill`; `answers` keeps what does; `lists` parses and filters lists.
`checks` judges upstream's bytes, `troubles` words upstream's failures, `probes` tells packages from
modules while upstream is down. `healing` fetches damaged zips again, `refresh` asks upstream anew,
`logpass` asks the public log later.
"""
