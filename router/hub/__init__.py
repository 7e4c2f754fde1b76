"""The router actor: its state, and the sync steps in which it changes it.

In layers, as the modules of `router` are:

    publish_keys, state, crash, distributing, attachment, administration, history_reply, replays, publishing,
    subscribing, actor
"""
