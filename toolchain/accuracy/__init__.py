"""What a model must keep of its reference: :mod:`.metrics`, the :mod:`.gate` on them, and :mod:`.parity` of outputs."""
