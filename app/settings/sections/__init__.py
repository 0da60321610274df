"""The sections of the settings as frozen models: names, types, ranges, defaults, meanings.

Nothing here reads the environment: `sources.py` does. Everything can be pickled, because every
worker process gets a copy. Lists are tuples, so that nothing can change them.
"""
