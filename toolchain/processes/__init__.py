"""Who is asked over JSON lines: :mod:`.turns` asks, :mod:`.worker` answers; both find nnx by :mod:`.own_packages`.

:mod:`.last_words` are those of a process that is gone.
"""
