"""rad_jax: world models that do not forget (Recurrent Autoregressive Diffusion) in JAX."""

__version__ = "0.1.0"
