"""The router actor: its state, and the sync steps in which it changes it.

In layers, as the modules of `router` are:

    state, attachment, administration, replays, publishing, subscribing, actor
"""
