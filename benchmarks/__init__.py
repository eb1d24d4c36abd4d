"""Measurements of what the library claims to be fast or small, each against the plain way in the same process."""
