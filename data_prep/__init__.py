"""Data preparation: the embedded worlds and the commands that turn them, or other sources, into episodes on disk.

The model package never imports anything from here.
"""
