"""What admins can do: one function each, used by the API and by the command line.

Each takes the services, calls one of their methods and returns what `models` says.
"""
