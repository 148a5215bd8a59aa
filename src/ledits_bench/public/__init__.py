"""The public benchmarks: their files as published, their metrics as published, one JSON line a case."""
