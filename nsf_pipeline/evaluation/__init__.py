"""How close a learned law is to the simulator's own: ensembles, scores, tables and pictures.

Nothing is imported here: the ensembles are simulated without JAX.
"""
