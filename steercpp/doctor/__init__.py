"""Is this installation, is this vector in order? Begin with installation.py, or with vector.py.

findings.py holds the checks of a vector's file, model_check.py and pair_check.py those that need a model, repair.py
writes the file again.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
