"""Models that look at a picture for a person: what it shows, and where something is. Never used unless asked for."""
