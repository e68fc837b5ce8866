"""The loop level as LLVM text with explicit vectors, for no other consumer than the code generator.

printer     the text of one kernel: scopes, sizes, bounds
access      addresses, guards, loads and stores
values      expressions
combine     what reductions do with registers
statements  loops, reductions, stores
scatter     updates at computed places
kernel      the finished function
"""
