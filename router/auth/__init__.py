"""Who a client is and what it may do: tokens checked, keys fetched, tokens revoked, roles looked up.

In layers, as the modules of `router` are:

    identity, access, revocations, claims, keys, jwk_set, jwks_fetch, key_set, tokens
"""
