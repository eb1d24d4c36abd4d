"""Experiments: one file per recipe, each with a function ``get_config(variant)``."""
