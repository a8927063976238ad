"""Who is asked over JSON lines: :mod:`.turns` is the asking side, :mod:`.worker` the process that answers."""
