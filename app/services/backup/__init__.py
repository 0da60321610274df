"""Backups: making, checking, removing and restoring them.

The form of a backup is `app/core/backup.py`.
"""
