"""The one way in which files are written: whole or not at all; no other module writes one. Begin with writing.py.

writing.py writes files by their names, over a draft beside each (draft.py), which is brought to the disk, read back and
compared before it is renamed. swaps.py keeps what is being replaced until all new files are in their places, and brings
it back after a kill. leftovers.py removes what killed processes have left, claims.py tells them from living ones.
places.py refuses what is no place for a file, fences.py all that a thread may no longer write to.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
