"""Figures, tables and the page of a run; begin with report.py.

A report reads a run and its judgement, and needs no model.
"""
