"""The worker's image: what it is made of, and what builds it and puts it into a registry."""
