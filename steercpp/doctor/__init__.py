"""Is this installation, is this vector in order? Begin with installation.py, or with vector.py.

findings.py holds the checks of a vector's file, model_check.py and pair_check.py those that need a model, repair.py
writes the file anew.
"""
