"""Worlds from which data sets are made: `maze` and `voxel` are rendered here, `memory_maze` and `luanti` by others."""
