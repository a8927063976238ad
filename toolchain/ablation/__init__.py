"""What each training switch gains: :mod:`.measure` lets every :mod:`.variant` of the loop take turns.

The figures are a :mod:`.record`.
"""
