"""Before a model is published: checks, card, checksums; and the push to the hub."""
