"""The process around an app: its settings, its functions, HTTP, the console and the signals.

`app.py` assembles everything; no other module here knows the engine or a store.
"""
