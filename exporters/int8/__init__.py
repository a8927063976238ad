"""int8, in the format that :mod:`.targets` names.

:mod:`.preparation` is what both ways share, :mod:`.products` the form that its products take. :mod:`.static` goes
through :mod:`.attention_form`, :mod:`.stem_fold`, :mod:`.equalization`, :mod:`.qdq` and :mod:`.bias_correction` (with
:mod:`.segments`), each kept by :mod:`.evidence`. :mod:`.qdq` writes what :mod:`.placement` decides, by the rules of
:mod:`.operators` and in the numbers of :mod:`.weights`. :mod:`.dynamic` quantizes activations as they come:
:mod:`.integer_graph` rewrites node by node, :mod:`.stored` keeps each weight once, :mod:`.recurrent` is for LSTM
and GRU.
"""
