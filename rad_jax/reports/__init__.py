"""Pages, tables and figures of an evaluation."""
