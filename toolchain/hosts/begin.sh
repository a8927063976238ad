# How another machine begins to serve a bench: the first Python that has numpy and onnxruntime runs agent.py.
#
# `python`, `base` and `agent` are set above.

export PYTHONDONTWRITEBYTECODE=1 PYTHONIOENCODING=utf-8 ORT_DISABLE_TELEMETRY=1
case $python in "~/"*) python=$HOME/${python#"~/"} ;; esac
for each in "${python:-python3}" "${python:-python}"; do
    "$each" -c 'import numpy, onnxruntime' >/dev/null 2>&1 </dev/null && exec "$each" -c "$agent" "$each" "$base"
done
echo "nnx.no ${python:-its python3} is not there, or has no numpy and onnxruntime"
