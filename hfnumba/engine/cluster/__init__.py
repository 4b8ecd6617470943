"""Rounds over the workers of a Dask cluster: what the client does, and what runs on the workers."""
