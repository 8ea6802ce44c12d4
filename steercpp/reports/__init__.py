"""Figures, tables and the page of a run; begin with report.py.

A report reads a run and its judgement, and needs no model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
