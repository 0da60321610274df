"""Use cases: each public method owns its transaction and the order of effects.

Takes its collaborators in the constructor and returns values of `core`, never rows.
"""
