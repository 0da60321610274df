"""Real modules through Moorage, compared with the same go commands without it.

Opt in: `make test-real`. pytest tests only what the comparison is made of.
"""
