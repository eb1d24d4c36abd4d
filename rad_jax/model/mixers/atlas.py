"""The atlas, our own: a map of the world as frames that saw what none before them did.

It is a `rad_jax.model.mixers.bank.Bank` that `rad_jax.model.addressing` fills and opens by where frames were seen from:

    a frame is kept if a share of what it sees, more than ``memory.unseen``, is seen by no kept frame;
    a frame reads the kept ones that together see most of what it sees.

So a place is drawn once, by the frame that saw it first. What a rollout generates there later is read off the map and never
written to it: errors do not come back as memories. Bytes are those of ``memory.capacity`` frames. Where a world is larger, the
frame that was kept first makes room.
"""

from rad_jax.model.mixers.bank import Bank


class Atlas(Bank):
    """See the module docstring."""


MIXER = Atlas
