"""What a model must keep of its reference, by one rule for all commands.

:mod:`.metrics` of the task, the :mod:`.gate` on them, :mod:`.parity` of outputs; a :mod:`.status` is what comes of it.
"""
