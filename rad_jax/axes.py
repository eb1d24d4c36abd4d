"""The glossary of axis names used in every shape annotation of the package.

A signature such as ``x: Float[Array, "b t n d"]`` is read with this list:

    b   videos in a batch                    v   videos of an evaluation
    t   frames in time                       w   slots of the attention window
    k   window starts chosen in a video      l   layers
    n   tokens of a frame                    d   width of the model
    h   attention heads                      e   width of one head
    a   size of the condition of a frame (action, and pose where the model is given it)
    f   input features of a memory, or       u   units of a memory
        values of an image patch             m   images that a tokenizer takes at once
    rows cols ch    a latent frame           H W 3   an image
"""

from jaxtyping import Array, Bool, Float, Int, Key, PyTree

__all__ = ["Array", "Bool", "Float", "Int", "Key", "PyTree"]
