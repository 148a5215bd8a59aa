"""Tools for chat programs and agents, by the Model Context Protocol: over standard input, or over HTTP."""
