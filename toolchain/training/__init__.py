"""Training a recipe: :mod:`.options` say how, :mod:`.loop` runs the epochs of a :mod:`.trainer` over :mod:`.batches`.

:mod:`.checkpoint` keeps weights and state, :mod:`.record` the history, :mod:`.allocator` keeps freed memory.
"""
