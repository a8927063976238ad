"""A user's own Python files: found, imported beside nnx without either shadowing the other, and digested.

:mod:`layout` says where their imports are looked for, :mod:`project` imports them, :mod:`written` reads them unrun.
"""
