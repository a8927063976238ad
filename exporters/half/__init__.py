"""16 bits: :mod:`.fp16`, with the :mod:`.ranges` that fit it and a :mod:`.graph` that casts; and :mod:`.bf16`."""
