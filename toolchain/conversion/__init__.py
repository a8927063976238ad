"""One road from a model to a proven file in another precision.

:mod:`.exporting` brings a module to fp32, :mod:`.precisions` says what each precision is made of, and
:mod:`.fitting` makes it pass the accuracy gate: as it is, or by a :mod:`.search` for what must stay in float, whose
plan is a :mod:`.record`, with :mod:`.range_choice`. What passed is a :mod:`.proof`; then :mod:`.speed_check` and
:mod:`.settings_search` time it.
"""
