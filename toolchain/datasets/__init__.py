"""Where samples come from: :mod:`.dataset` says what a data set is, each other file reads one kind.

What does not fit in memory is read :mod:`.on_demand`: pictures in :mod:`.class_folders`, tar :mod:`.shards` by their
:mod:`.tar_index`, the tables of an :mod:`.arrow_folder`; :mod:`.parts` makes splits of them, and :mod:`.bad_samples`
are named and skipped.
"""
