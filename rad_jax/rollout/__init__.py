"""Streaming generation: `start` reads a context, `step` and `generate` continue it, `forget` empties its memory."""

from rad_jax.rollout.stream import RolloutState, Window, forget, frames_in_window, generate, start, step

__all__ = ["RolloutState", "Window", "forget", "frames_in_window", "generate", "start", "step"]
