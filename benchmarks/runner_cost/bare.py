"""ONNX Runtime alone: answers for an array, then runs as many seconds as each line asks for. MODEL INPUT.npy"""

import json
import sys
import time

import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = {session.get_inputs()[0].name: numpy.load(sys.argv[2])}
print(json.dumps([each.tolist() for each in session.run(None, feeds)]), flush=True)
for line in sys.stdin:
    end, runs = time.perf_counter() + float(line), []
    while time.perf_counter() < end:
        before = time.perf_counter()
        session.run(None, feeds)
        runs.append((time.perf_counter() - before) * 1e3)
    print(json.dumps(runs), flush=True)
