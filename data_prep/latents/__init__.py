"""The parts of data_prep.encode_latents: where frames come from, how they are encoded, and who encodes which of them."""
