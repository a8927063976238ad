"""The smallest part of a model that fails: each module is exported alone, on what reaches it there (:mod:`.calls`,
:mod:`.inside`), through the ladder and the proof of an export (:mod:`.trial`). The search goes down into the first that
fails (:mod:`.search`). What is found is told (:mod:`.finding`) and cut out into a file that shows the
fault without nnx (:mod:`.repro`, of :mod:`.sources` and :mod:`.construction`).
"""
