"""Client of the judge service: `Judge`, and `AsyncJudge` for asyncio. Needs neither torch nor an engine.

from serve.client import Judge

with Judge("http://127.0.0.1:8000") as judge:
    found = judge.pairwise(instruction="2+2?", responses=["4", "5"], both_orders=True)
    print(found.results[0].verdict)
"""

from serve.client.async_judge import AsyncJudge
from serve.client.errors import JudgeError
from serve.client.judge import Judge
from serve.client.wire import Asked, Criterion, Message, Piece
from serve.schemas import BatchResult, JudgeResponse, Judgment

__all__ = [
    "Asked",
    "AsyncJudge",
    "BatchResult",
    "Criterion",
    "Judge",
    "JudgeError",
    "JudgeResponse",
    "Judgment",
    "Message",
    "Piece",
]
