"""One judge in several engines: the same prompt tokens, and how far verdicts and probabilities are apart."""
