"""Published and built-in sets by name; begin with names.py, which turns a name into pairs or items.

catalog.py lists the sets, sources.py and fetching.py bring their official files here, records.py reads rows of those,
and safety.py and knowledge.py know the format of each.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
