"""One road from a model to a proven file in another precision, for ``nnx run``, ``convert`` and ``quantize`` alike.

:mod:`.exporting` brings a module to fp32. :mod:`.fitting` is the road: one of the :mod:`.precisions`, made and judged
on what is :mod:`.given`, must meet a :mod:`.goal`, as it is or after a :mod:`.search` for what must stay in float. That
tries versions (:mod:`.trial`) in the order of a :mod:`.ranking`, with :mod:`.range_choice`; its plan is a
:mod:`.record`. What passed is a :mod:`.proof`; then :mod:`.speed_check` and :mod:`.settings_search` time it.
"""
