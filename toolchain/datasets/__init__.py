"""Where samples come from: :mod:`.dataset` says what a data set is, each other file reads one kind."""
