"""Several sweeps or extractions that answer one question: scan, transfer, cross, synthesis, constants/, study/.

Each module is begun on its own; figures.py draws what scan, transfer and cross give. `scan` and
`transfer` are imported from steercpp itself: modules of those names lie here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
