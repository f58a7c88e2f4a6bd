"""When to try again, and how long to wait before."""

from __future__ import annotations

import random
from dataclasses import dataclass

from serve.client.errors import JudgeError


@dataclass(frozen=True)
class Retries:
    """Twice as long after each try, or as long as the service says, and a little more by chance.

    Attributes:
        times: tries after the first.
        first: seconds before the second try, at most.
        longest: most seconds of a wait; who asks for more is not waited for.
    """

    times: int = 4
    first: float = 0.5
    longest: float = 60.0

    def wait(self, tried: int, error: JudgeError) -> float:
        """Seconds until the next try.

        Args:
            tried: tries again so far.
            error: of the last one.

        Raises:
            JudgeError: the one given, if there is to be no further try.
        """
        if not error.again or tried >= self.times or error.retry_after > self.longest:
            raise error
        # By chance, so that clients refused together do not come back together. No result depends on it.
        chance = random.uniform(0.5, 1)
        return max(min(self.longest, self.first * 2**tried) * chance, error.retry_after + self.first * (chance - 0.5))
