"""Everything that is read from or written to disk: pictures, inversions, composites, atomic writes."""
