"""Where micro-batches run."""
