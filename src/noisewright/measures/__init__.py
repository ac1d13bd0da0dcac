"""Statistics: the Frechet distance, moments of features, the bootstrap."""
