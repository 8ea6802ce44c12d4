"""Results as panels and tables; only output.py, beside this folder, knows Rich."""
