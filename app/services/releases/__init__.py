"""The release mirror: read the index, select, ingest, verify, catalogue.

`index` reads go.dev's list; `ingestion` brings one file in, with `fetching` and `judging`, under
`policy`; `keyring` holds the key; `catalog` is what the web layer reads, and `freshness` decides
when a request reads the index; `sync` mirrors a selection; `repair` and `scrub` heal blobs.
"""
