"""Revoked tokens: which are refused, for how long, and how many are remembered."""

from router.auth.identity import Identity
from router.auth.revocations import Revocations


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def token(
    token_id: str | None, user_id: str | None = None, issued_at: float | None = None, expires_at: float | None = None
) -> Identity:
    return Identity(user_id, token_id=token_id, issued_at=issued_at, expires_at=expires_at)


def test_a_token_is_known_by_its_jti() -> None:
    revoked = Revocations(10)
    assert not revoked.refuses(token("a"))
    assert not revoked.revoke_token("a")
    assert revoked.refuses(token("a", "ada"))
    assert not revoked.refuses(token("b", "ada"))
    assert not revoked.refuses(token(None, "ada"))
    assert len(revoked) == 1


def test_of_a_user_all_tokens_are_refused_that_were_issued_up_to_now() -> None:
    clock = Clock()
    revoked = Revocations(10, clock)
    revoked.revoke_user("ada")
    assert revoked.refuses(token("a", "ada", 999))
    assert revoked.refuses(token("a", "ada", 1000))
    assert revoked.refuses(token("a", "ada")), "it does not say when"
    assert not revoked.refuses(token("a", "ada", 1000.5))
    assert not revoked.refuses(token("a", "bob", 999))
    assert not revoked.refuses(token("a", None, 999))


def test_a_second_time_counts_from_then() -> None:
    clock = Clock()
    revoked = Revocations(10, clock)
    revoked.revoke_user("ada")
    clock.now = 2000
    assert not revoked.refuses(token("a", "ada", 1500))
    revoked.revoke_user("ada")
    assert revoked.refuses(token("a", "ada", 1500))
    assert len(revoked) == 1


def test_beyond_the_bound_the_oldest_goes() -> None:
    revoked = Revocations(2)
    assert not revoked.revoke_token("a")
    assert not revoked.revoke_user("ada")
    assert revoked.revoke_token("b")
    assert not revoked.refuses(token("a"))
    assert revoked.refuses(token("b"))
    assert revoked.refuses(token(None, "ada", 1))
    assert revoked.revoke_user("bob")
    assert len(revoked) == 2
    assert not revoked.refuses(token(None, "ada", 1)) or not revoked.refuses(token("b"))
    assert revoked.refuses(token(None, "bob", 1))


def test_a_second_revocation_of_a_token_moves_nothing() -> None:
    revoked = Revocations(2)
    revoked.revoke_token("a")
    revoked.revoke_token("b")
    assert not revoked.revoke_token("a")
    assert revoked.revoke_token("c")
    assert not revoked.refuses(token("a"))


def test_of_users_the_one_revoked_longest_ago_goes() -> None:
    clock = Clock()
    revoked = Revocations(2, clock)
    for user in ("ada", "bob", "ada"):
        revoked.revoke_user(user)
    assert revoked.revoke_user("eve")
    assert revoked.refuses(token(None, "ada", 1))
    assert not revoked.refuses(token(None, "bob", 1))


def test_what_has_expired_makes_room() -> None:
    clock = Clock()
    revoked = Revocations(2, clock)
    revoked.revoke_token("a")
    revoked.revoke_token("b")
    assert revoked.refuses(token("b", expires_at=1100))
    clock.now = 1100
    assert not revoked.revoke_token("c")
    assert revoked.refuses(token("a"))
    assert revoked.refuses(token("c"))
    assert len(revoked) == 2
