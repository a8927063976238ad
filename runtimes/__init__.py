"""Runs a model and says truthfully what ran it; knows nothing of how the model was made.

:mod:`runtimes.base` holds the protocol, :mod:`runtimes.registry` the list of what there is.
"""

import os

# onnxruntime's wheels keep a device id, and send events with the model's name; only this, before it loads, stops both
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
