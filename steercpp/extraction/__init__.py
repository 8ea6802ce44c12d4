"""From activations of contrast pairs to a control vector; begin with extract.py.

methods.py holds the methods as plain functions, quality.py what a direction is worth, activations_file.py the dump.
`extract` is imported from steercpp itself: a module of that name lies here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
