"""A tenant's own transparency log.

`log` appends, looks up, proves and recovers; `growth` is the transaction of one append; `head`
keeps the newest head outside the database.
"""
