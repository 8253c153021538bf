"""What a run has to do with the machine around it: printing, signals, processes, clocks, variables.

Nothing here shapes a result; these modules keep the machine from doing so.
"""
