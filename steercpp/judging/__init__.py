"""What a text is judged to be: matchers, phrases, language, programs run in a sandbox; begin with matchers.py.

A judgement sees a text and its item, never the strength that it was generated at.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
