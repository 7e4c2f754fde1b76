"""Measures the router beside a program that does the same writes and nothing else: `python -m benchmarks`."""
