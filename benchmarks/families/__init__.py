"""Families of networks: what the tests explain, and what a map of each costs beside inference."""
