"""Protocols: how planners and models are put to the test, and the tables of what came out."""
