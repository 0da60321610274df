"""A tenant's own transparency log.

`log` appends, looks up and proves; `growth` is the transaction of one append; `head` keeps the head
outside the database.
"""
