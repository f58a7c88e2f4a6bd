"""From a checkpoint to what others can use anywhere, with a certificate that it judges the same everywhere."""
