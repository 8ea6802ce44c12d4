"""Prompts, contrast pairs and items, and the files that hold them; begin with prompts.py, then items.py.

Published sets are in sets/. Nothing here knows a model: a prompt becomes tokens in engine/.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
