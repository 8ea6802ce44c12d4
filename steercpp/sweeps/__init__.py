"""Plans and measures a run; begin with sweep.py.

plan.py says what makes two sweeps the same, work.py turns items into rows, measure.py decodes them at each strength,
texts.py generates. What is measured goes to runs/.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
