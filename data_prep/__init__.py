"""Data preparation: worlds that are rendered here, recordings of others, and the commands that make data sets of both.

The model package imports nothing from here.
"""
