"""`graphc demo`: the digits network from data to picture.

`digits.py` is `examples/digits.py`. The demo copies it beside its results and imports it from
there, so that source lines are the user's.
"""
