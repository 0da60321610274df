"""What lies outside: HTTP servers and the gpg program.

Transport errors end here and leave as errors of `core.errors`; nothing here touches the database.
"""
