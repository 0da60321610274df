"""The release mirror: read the index, select, ingest, verify, catalogue.

`index` reads go.dev's index. `ingestion` brings one file in, with `fetching` and `judging`, under
`policy`. `keyring` holds the key. The web layer reads `catalog`; `freshness` decides when a request
reads the index. `derived` makes files from archives, `derive` reads an archive for them;
`zstforms` and `recompress` make the zstd form. `sync` mirrors a selection. `scrub` and `healing`
find and replace damaged blobs.
"""
