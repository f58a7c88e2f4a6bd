"""openselene: curate judge-training data, fine-tune a small LLM judge, benchmark it and serve it."""

__version__ = "0.1.0"
