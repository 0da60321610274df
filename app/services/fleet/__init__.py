"""Fleets: channels, rollouts and nodes, and the program that nodes run.

Stands above `releases`, and imports no other group but shared mechanisms.
"""
