"""What a run needs on a cluster: files, models, images, secrets and nodes, and where each comes from."""
