"""What a model must keep of its reference, by one rule for all commands.

:mod:`.metrics` of the task, the :mod:`.gate` on them, the :mod:`.comparison` of outputs; a :mod:`.status` comes of it.
A model is :mod:`.running` call by call; what it gives is :mod:`kept <.kept_calls>`, or passed on in a
:mod:`.calls_file`, and looked at :mod:`.one_by_one`, so that memory does not grow with the samples, whose right
answers are their :mod:`.targets`. :mod:`.output_kinds` says what an output is, :mod:`.channels` and :mod:`.agreement`
how numbers and answers are compared.
"""
