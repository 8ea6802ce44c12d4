"""A control vector, its arithmetic and its file formats; begin with control_vector.py.

gguf.py is the format that llama.cpp loads, formats.py picks a reader by the file's name. Nothing here knows a model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
