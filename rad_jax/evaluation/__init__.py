"""Evaluation: predictions of a run scored beside floors and ceilings."""
