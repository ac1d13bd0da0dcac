"""The doors to what others made: files, paths, texts, and how large a number may be."""
