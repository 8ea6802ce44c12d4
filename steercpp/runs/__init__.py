"""What a measured sweep left on disk, and everything that follows from it; begin with result.py.

folder.py is the run directory and its manifest, store.py its database. A run is read without a model and without the
native module.
"""
