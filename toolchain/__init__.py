"""The conductor: commands, the order of the steps, measuring, shipping.

Data flows one way: cli -> pipeline -> conversion, ablation, html_report, doctor -> bench, layers -> training, inputs ->
recipes -> datasets, accuracy, processes -> machine; and beside them errors, statistics, console, manifest. Each room's
``__init__`` says what lies in it. Model files are made by ``exporters`` and run by ``runtimes``.
"""

import os

# onnxruntime's wheels keep a device id, and send events with the model's name; only this, before it loads, stops both
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
