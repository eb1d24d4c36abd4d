"""Streaming generation: `start` reads a context, `step` gives the next frame, `generate` many of them."""

from rad_jax.rollout.stream import RolloutState, Window, frames_in_window, generate, start, step

__all__ = ["RolloutState", "Window", "frames_in_window", "generate", "start", "step"]
