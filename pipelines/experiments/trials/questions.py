"""A held-out row as the judge is asked about it: the tokens by which the answers of its verdicts part.

As a batch job and the service weigh verdicts (`verdict_tokens.py`). How likely a judge is to end its answer after a
verdict is no part of that verdict's probability: a model that was never trained on such answers would be taken to
prefer the verdict after which it happens to stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.core.errors import UserError
from pipelines.engines.llm.verdict_tokens import Path, branches, parted, path_logprobs, tree_of
from pipelines.experiments.trials.families import Family


@dataclass(frozen=True)
class Question:
    """A prompt and the answers of its closed set.

    Attributes:
        prompt: token ids, with what all answers begin with.
        paths: what each answer goes on with.
        places: where they part, as the tokens that lead there -> those that may follow.
    """

    prompt: Sequence[int]
    paths: Sequence[Path]
    places: Mapping[Path, Sequence[int]]

    @classmethod
    def of(cls, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> Question:
        """A question from token ids of whole answers.

        Raises:
            UserError: two answers have the same tokens.
        """
        if len({tuple(one) for one in answers}) < len(answers):
            raise UserError(
                "the model's tokens do not tell the answers of two verdicts apart",
                where="templates of the held-out rows",
                fix="name a template with other verdicts",
            )
        shared, paths = parted(answers)
        return cls([*prompt, *shared], paths, dict(branches(tree_of(paths))))

    def families(self) -> list[Family]:
        """A family for each place, whose completions are single tokens."""
        return [Family([*self.prompt, *place], [[one] for one in after]) for place, after in self.places.items()]

    def logprobs(self, values: Sequence[Sequence[float]]) -> list[float]:
        """Log-probability of each answer, normalised over the closed set.

        Args:
            values: log-probabilities of each family's completions.
        """
        found = {
            place: dict(zip(after, own, strict=True))
            for (place, after), own in zip(self.places.items(), values, strict=True)
        }
        return path_logprobs(self.paths, found)
