"""One GGUF model that decodes, with steering on its residual stream; begin with engine.py.

An engine has a model (model.py) and a session (session.py), one context of it; one model serves many sessions.
packing.py decides which rows share a decode, operations.py what steering adds to a row, session.py hands both to the
native module, which only this room imports. reference.py is the slow readable twin of the native code.
`apply` is imported from steercpp itself: a module of that name lies here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
