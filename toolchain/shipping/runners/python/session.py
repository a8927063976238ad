"""ONNX Runtime: a variant is opened, run and timed on the CPU."""

import time
from collections import Counter

import onnxruntime
from package import ROOT, Refused

CPU = "CPUExecutionProvider"


class Session:
    """A variant, opened as the package asks; ``row`` tells the threads where nobody else does."""

    def __init__(self, variant, threads=None, provider=CPU, provider_options=None):
        if provider not in onnxruntime.get_available_providers():
            had = ", ".join(onnxruntime.get_available_providers())
            raise Refused(f"The onnxruntime there has no {provider}, only {had}.", "Install the build that has it.", 3)
        options, started = onnxruntime.SessionOptions(), time.perf_counter()
        self.threads = threads or (variant["row"] or {"threads": 1})["threads"]
        options.intra_op_num_threads, options.log_severity_level = self.threads, 4
        for key, value in variant["session_options"].items():
            if key == "session.graph_optimization_level":
                options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, "ORT_" + value.upper())
            elif key == "session.execution_mode":
                options.execution_mode = getattr(onnxruntime.ExecutionMode, "ORT_" + value.upper())
                options.inter_op_num_threads = self.threads
            elif key == "session.enable_mem_pattern":
                options.enable_mem_pattern = value == "1"
            else:
                options.add_session_config_entry(key, value)
        if variant["shared_weights"]:
            key = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(key, str(ROOT / variant["shared_weights"]))
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            providers = [(provider, provider_options or {}), *([CPU] if provider != CPU else [])]
            self.session = onnxruntime.InferenceSession(str(ROOT / variant["model"]), options, providers=providers)
        except Exception as error:
            why = (str(error).splitlines() or [type(error).__name__])[0][-200:]  # places in its source stand before
            what = f"onnxruntime {onnxruntime.__version__} refuses {variant['model']}: {why}"
            raise Refused(what, f"It wants onnxruntime {variant['onnxruntime']} or later.", 1) from error
        self.load_ms = (time.perf_counter() - started) * 1e3

    def run(self, feeds):
        return dict(zip([each.name for each in self.session.get_outputs()], self.session.run(None, feeds)))

    def nodes(self):
        """Nodes by provider; none where onnxruntime does not tell (before 1.24)."""
        ask = getattr(self.session, "get_provider_graph_assignment_info", list)
        return dict(sum((Counter({part.ep_name: len(part.get_nodes())}) for part in ask()), Counter()))

    def timed(self, feeds, min_runs, seconds):
        """Each run's milliseconds, and the seconds of all."""
        run, clock, runs, start = self.session.run, time.perf_counter, [], time.perf_counter()
        while len(runs) < min_runs or clock() < start + seconds:
            before = clock()
            run(None, feeds)
            runs.append((clock() - before) * 1e3)
        return runs, clock() - start
