"""The parts of data_prep.encode_latents."""
