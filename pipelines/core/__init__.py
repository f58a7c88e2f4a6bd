"""Records, determinism, config, stages, ledger and errors: what every job stands on. Knows no model."""
