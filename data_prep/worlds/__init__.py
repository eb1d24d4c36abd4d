"""Worlds that are rendered here, each in a package of its own."""
