"""Rows, the session, and one repository per noun; the only place that knows SQL.

Repositories never commit: a service method owns its transaction.
"""
