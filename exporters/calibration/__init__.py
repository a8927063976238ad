"""What activations do on real data, in constant memory.

:mod:`.data` checks the samples, :mod:`.activations` streams them through a graph, :mod:`.statistics` keeps a
:mod:`.histogram` of each tensor that :mod:`.taps` asks for (or the :mod:`.cache` knows), and :mod:`.thresholds` makes
ranges of them. :mod:`.channel_maxima` keeps the largest magnitude of each channel.
"""
