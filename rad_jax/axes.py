"""The glossary of axis names used in every shape annotation of the package.

A signature such as ``x: Float[Array, "b t n d"]`` is read with this list:

    b   videos in a batch                    v   videos of an evaluation
    t   frames in time                       w   frames (or cache slots) of the attention window
    k   places chosen in a video             l   layers
    n   tokens of a frame, or of a block     d   width of the model
    h   attention or memory heads            e   width of one head
    q   queries, or frames of a segment      s   square matrices: their rows and columns
    a   size of the condition of a frame (action, and pose where the model is given it)
    f   input features of a memory, or       u   units of a memory, or columns of its state
        values of an image patch
    g   mini-batches of a memory, in order   i, j    rows and columns of a matrix
    gates   of a memory, side by side        xbc   x, b and c of Mamba2, side by side
    m   images that a tokenizer takes at once, rows of a matrix, or numbers of a look
    r   rows that are padded to whole mini-batches, rows of a batch of states, or records that a frame reads
    two_i   keys, then queries, of i frames  conv_past   frames a convolution still sees
    keys    what a query attends to          count   frames of a cut
    c   slots of a memory                    p   numbers of a pose, or of the code of a place
    x   numbers of a relative pose           z   points of a view
    X Y     a resized image                  bins    of a histogram
    blocks  of tokens that share a state     parts   into which features are split
    chains  of windows, from one start each  kc      windows of all chains of a video
    size    of an archive: its errors
    rows cols ch    a latent frame           H W 3   an image (C: of any channels)

``*b`` stands for any number of leading axes.
"""

from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt

__all__ = ["Array", "Bool", "Float", "Int", "Key", "PyTree", "UInt"]
