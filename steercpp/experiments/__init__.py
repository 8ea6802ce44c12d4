"""Several sweeps or extractions that answer one question: scan, transfer, cross, synthesis, constants/, study/.

Each module is begun on its own; figures.py draws what scan, transfer and cross give.
"""
