"""Looking at graphs: pictures, listings, pages, explanations.

picture   what is shown: items and links, made from a graph or from its kernels
family    which family of ops an item belongs to, and its colours
layout    where things go: layers, few crossings, straight lines
draw      a picture as SVG
listing   a picture as lines of text, for the terminal
html      pictures, kernels and source lines as one self-contained page
cost      bytes and floating-point operations of nodes and kernels
explain   what was fused, what was not and why, against the machine's limit
facets    where each facet of an op is written
machine   what this machine offers

Nothing here changes a graph. Imports from ir, passes and backends; frontends do not import it.
"""
