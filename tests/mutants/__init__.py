"""Mutation testing of the mathematics; see `tests.mutants.__main__`."""
