"""Results as panels and tables; only cli/output.py knows Rich."""
