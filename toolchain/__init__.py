"""The conductor: commands, the order of the steps, measuring, shipping.

Data flows one way: :mod:`toolchain.cli` -> :mod:`toolchain.pipeline` -> training, proof, :mod:`toolchain.bench`,
report -> statistics, machine facts, errors; and from the commands -> :mod:`toolchain.conversion` -> fitting -> search,
gate. :mod:`toolchain.html_report` draws what lies in a folder, :mod:`toolchain.doctor` looks at the machine. Model
files are made by ``exporters`` and run by ``runtimes``.
"""

__version__ = "0.1.0"
