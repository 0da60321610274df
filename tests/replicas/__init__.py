"""Two replicas without a shared disk, under faults: `__main__.py`. pytest runs none of it."""
