"""Real modules through Moorage, compared with the same go commands without it.

Opt in: `make test-real`. Nothing here is collected by pytest.
"""
