"""Pure values and transitions of durable execution. Nothing in this package does I/O.

Time, ids and randomness arrive as arguments; user values are opaque text.
"""
