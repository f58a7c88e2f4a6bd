"""Public data into the store, once: what a run reads, pinned, fetched and checked."""
