"""Public checksum databases, relayed and audited.

`relay` is a client of one log that passes on only what it verified; `tiles` are its proven tiles;
`checks` asks the log about modules that come in.
"""
