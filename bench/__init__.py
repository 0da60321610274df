"""Benchmarks. A figure is a ratio to a reference measured in the same run; absolute numbers say
more about the machine than about the program.
"""
