"""Sessions: many people walk through generated worlds at once, each in one of their own."""

from rad_jax.play.sessions import SessionError, Sessions, Snapshot

__all__ = ["SessionError", "Sessions", "Snapshot"]
