"""The evidence for what the field claims: what is measured, how it is kept, and what may be said of it."""
