"""Plans and measures a run; begin with sweep.py and spec.py.

spec.py says what a sweep is asked for, work.py turns items into rows, measure.py decodes them at each strength,
texts.py generates. What is measured goes to runs/; runs/plan.py says what makes two sweeps the same. `sweep` is
imported from steercpp itself: a module of that name lies here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
