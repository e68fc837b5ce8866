"""The CPU backend: kernels printed as LLVM IR text, compiled and called in this process.

The half that knows nothing of graphs, the runtime:

    settings  what the environment switches, as one record
    target    the instruction sets that code is written for, and what each can do
    symbols   the functions that compiled code may call, and where they are
    objectfile  the undefined symbols of an ELF or Mach-O object
    jit       IR text -> object -> loaded code with addresses
    cache     objects and compiled graphs on disk
    cpython   functions that CPython calls directly, written as IR
    entry     a compiled graph as a Python callable
    float_control  the processor's control word of floating point: flushing of denormals
    cores     how many processor cores this process may use
    pool      the thread pool, in IR, called by generated code
    memory    buffers with aligned addresses, free lists, scratch
"""
