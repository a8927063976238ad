"""`make zoo-timm`: models of timm's, drawn with a seed, through `nnx export` and beside PyTorch at three batches.

``environment`` brings timm in, ``judging`` tries one model, ``report`` counts.
"""
