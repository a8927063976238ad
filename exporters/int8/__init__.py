"""int8, in the format that :mod:`.targets` names.

:mod:`.preparation` is what both ways share. :mod:`.static` goes through :mod:`.attention_form`, :mod:`.stem_fold`,
:mod:`.equalization`, :mod:`.qdq` and :mod:`.bias_correction` (with :mod:`.segments`), each kept by :mod:`.evidence`;
:mod:`.dynamic` quantizes activations as they come.
"""
