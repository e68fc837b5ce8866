"""Fusion: which values share a kernel, and what each kernel computes at one point.

sizes       proofs of order and divisibility of sizes
affine      index forms
domain      iteration spaces
expr        expressions
group       kernels to be, with their members
pull        values computed at an index
candidates  which groups a newcomer may join
plan        the result
fuse        the pass
"""
