"""Files: inversions, atomic writes, where checkpoints lie, the cache."""
