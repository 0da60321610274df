"""A tenant's own transparency log.

`log` appends, looks up and proves; `growth` is the transaction of one append; `head` keeps the
newest head outside the database; `recover` repairs a log after an older database was restored;
`watch` notices the logs that refuse to grow.
"""
