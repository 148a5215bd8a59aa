"""`ledits serve`: the editor over HTTP, as OpenAI's image edits and as inversions that are kept and edited again."""
