"""From policies to the data set: HDF5 schemas, sampling, simulation, merging, reading."""
