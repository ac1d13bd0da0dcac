"""The page and the server (the extra ``web``)."""
