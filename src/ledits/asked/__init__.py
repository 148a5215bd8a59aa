"""What a person asked for, checked: settings, edits and recipes, the plan, where each edit may act."""
