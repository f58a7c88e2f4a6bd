"""The graders of OpenAI's API: their shapes, their texts, their sums."""
