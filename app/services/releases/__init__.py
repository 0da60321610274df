"""The release mirror: read the index, select, ingest, verify, catalogue.

`index` reads go.dev's list, `ingestion` fetches and verifies one file, `keyring` holds the key,
`catalog` is what the web layer reads, `sync` mirrors a selection, `repair` heals damaged blobs.
"""
