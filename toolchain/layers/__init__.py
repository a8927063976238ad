"""What each layer of a converted model does.

:mod:`.graph` cuts a file into layers, :mod:`.probes` makes graphs to look at them, :mod:`.damage` measures their noise,
:mod:`.explain` adds what they run as and what they cost; what is known of them is a :mod:`.record`.
"""
