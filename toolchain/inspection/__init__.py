"""What a model file holds (:mod:`.describe`), what is wrong with it (:mod:`.check`), where two files part
(:mod:`.diff`), and the same file without its weights (:mod:`.lighten`).

Files are anyone's: any opset and domain, nodes without names, open lengths, nested graphs, sequences, functions.
"""
