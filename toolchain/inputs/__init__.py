"""What a user names: :mod:`.sources` finds recipes and code, :mod:`.models` makes modules of it.

:mod:`.samples` are real inputs, or made from a seed; :mod:`.overlap` finds what two sets of them share.
"""
