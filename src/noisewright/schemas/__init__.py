"""What other people's files and arguments must look like: one schema each, read at one place, refused in one line."""
