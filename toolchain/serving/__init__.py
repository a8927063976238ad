"""``nnx serve``: a package answers over HTTP, by the Open Inference Protocol (v2), as a test double or a small site's.

``checked`` opens a variant of a package that is whole and answers as its golden values say. ``protocol`` reads a
request and writes an answer, bytes to values and back, with ``tensors`` for what is in them; ``compression`` unpacks
what came packed. ``batching`` runs in one call what waits together, ``app`` is the ASGI application that says no to
what is too much or too late, and ``server`` runs it until it is told to stop.

``repository`` writes what other engines serve of a package, with ``triton_config`` for the one that wants most told.
"""
