"""Runs a model and says truthfully what ran it; knows nothing of how the model was made.

:mod:`runtimes.base` holds the protocol, :mod:`runtimes.registry` the list of what there is.
"""
