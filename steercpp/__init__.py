"""Steer a quantized llama.cpp model, measure what it costs, and keep the vector that llama.cpp loads.

    from steercpp import Engine, extract, read_pairs, sweep

The names, which __init__.pyi lists, are imported when they are first used: `import steercpp` costs next to nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
