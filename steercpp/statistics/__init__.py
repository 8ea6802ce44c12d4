"""From numbers of items to estimates with intervals; begin with scores.py, then recommend.py.

NumPy arrays in, dataclasses out. Nothing here knows a model, a run or a file, but for CSV files of curves.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
