"""Images: reading, writing, and what a PNG says of itself."""
