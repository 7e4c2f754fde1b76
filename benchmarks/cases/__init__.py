"""The cases, each a function from a plan to a report."""
