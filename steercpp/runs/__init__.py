"""What a measured sweep left on disk, and everything that follows from it; begin with result.py.

folder.py is the run directory and its manifest, store.py its database. A run is read without a model and without the
native module.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
