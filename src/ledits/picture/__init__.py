"""Pictures: read and written, laid onto the network's grid, and laid onto the original."""
