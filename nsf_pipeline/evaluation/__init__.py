"""How close a learned law is to the simulator's own: ensembles, scores, tables and pictures.

This file imports nothing, so that ensembles can be simulated without JAX.
"""
