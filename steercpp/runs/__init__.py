"""What a measured sweep left on disk, and everything that follows from it; begin with result.py.

folder.py is the run directory, manifest.py what was measured, with what and how far it is, plan.py what two equal
sweeps have in common, store.py the database, labels.py what is measured under which name. scores.py and judgement.py
turn the readings into scores and a recommendation. A run is read without a model and without the native module.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
