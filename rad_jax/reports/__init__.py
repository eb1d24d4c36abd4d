"""Pages, tables and figures of evaluations and comparisons."""
