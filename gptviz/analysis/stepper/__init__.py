"""A forward pass, value by value: its stages, the arithmetic of every cell, questions, what breaks without a part.

`stages` is the table: what is computed, in which order, from what, by which rule. `source_lines` finds where `model.py`
computes it. `forward_pass` holds one recorded pass and its weights as arrays, without torch; `recorded` makes one from
a trace. `receipts` gives the arithmetic of one cell (by `rules`) in float64, beside the recorded value. `questions` are
what to predict before a stage shows its numbers; `switches` run the same text with a part of the model taken away.
"""
