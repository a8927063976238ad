"""Models of many transformers types, tiny and seeded: `make zoo-hf` counts whose export has PyTorch's values.

``types`` is the list, as data; ``tiny`` makes a folder of one as save_pretrained() leaves it; ``judging`` runs `nnx
export` on it and transformers' own exporter, each in a watched process, and compares both files with PyTorch at three
lengths by a measure of its own; ``report`` keeps the results and writes the table.
"""
