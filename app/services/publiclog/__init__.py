"""Public checksum databases, relayed and audited.

`relay` is a client of one log: it answers only with records and tiles that it has verified. `tiles`
fetches and proves the tiles. `checks` compares fetched modules with the log.
"""
