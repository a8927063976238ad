"""One HTML page about a benchmark, that needs nothing but itself.

``gather`` reads what lies in a folder, ``page`` writes the page. Between them: ``sections`` and ``model_sections`` put
each matter into words, ``bench_charts`` and ``model_charts`` draw it, ``drawing`` turns a chart into SVG,
``placement`` finds room for names, ``commands`` are the lines to copy, ``tables`` and ``markup`` make HTML,
``style.css`` is how all of it looks.
"""
