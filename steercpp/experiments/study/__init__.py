"""A whole study from one readable preset, such as the paper's experiments; begin with study.py.

preset.py reads the file, inputs.py finds models and data, preview.py says what it would cost, outcome.py what came out.
"""
