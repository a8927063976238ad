"""Measuring, and what is said of it.

:mod:`~toolchain.bench.target_rows` makes candidates of what a user names, :mod:`~toolchain.bench.sweep` the settings;
:mod:`~toolchain.bench.benchmark` runs :mod:`groups <toolchain.bench.group>` of rows, each a process with a
:mod:`~toolchain.bench.row`, whose :mod:`outputs <toolchain.accuracy.calls_file>` are judged by
:mod:`~toolchain.bench.judging`, into the :mod:`~toolchain.bench.record`.
From there: :mod:`~toolchain.bench.report` with notes, figures and cautions; :mod:`~toolchain.bench.compare` of two.
"""
