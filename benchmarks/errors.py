"""The one error of this package."""


class BenchmarkError(Exception):
    """A measurement that could not be made. The message says what to do about it."""
