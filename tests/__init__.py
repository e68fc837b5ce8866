"""The tests mirror the package: tests/ir for graphc/ir, and so on."""
