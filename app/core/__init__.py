"""Pure rules of the field: no I/O, no async, no clock, no framework.

Values come in, values or an error of `errors` come out; anybody may import from here.
"""
