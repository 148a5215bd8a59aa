"""From what people write to what the network is told. No word of it is known to the method."""
