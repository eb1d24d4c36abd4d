"""The paper's tables in one command: every variant trained, scored and compared."""
