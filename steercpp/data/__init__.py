"""Prompts, contrast pairs and items, and the files that hold them; begin with prompts.py, then items.py.

Published sets are in sets/. Nothing here knows a model: a prompt becomes tokens in engine/.
"""
