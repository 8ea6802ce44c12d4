"""How fast steering is on this machine, and beside which peers; begin with bench.py.

models.py makes random weights of a given shape; each other module measures one thing and gives a line of the table.
"""
