"""16 bits: :mod:`.fp16`, with the :mod:`.ranges` that fit it and a :mod:`.graph` that casts; and :mod:`.bf16`.

:mod:`.emulation` computes an fp16 file as hardware would; weights in graphs inside nodes are :mod:`.nested`'s.
"""
