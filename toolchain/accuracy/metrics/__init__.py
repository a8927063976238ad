"""What a task calls good, as one number over all samples with its interval.

A :mod:`.metric` takes what each sample contributes and makes a score of it; :mod:`.intervals` says how sure that is,
and how much of it another model loses. Those that come with nnx are listed in :mod:`.built_in`, by kind of answer:
:mod:`.classes` (which of several, read by :mod:`.decisions`), :mod:`.numbers`, :mod:`.masks`, :mod:`.boxes`,
:mod:`.texts`; :mod:`.own` makes one of a user's function.
"""
