"""Ragas: a discrete metric with llm_factory, and a short model in JSON-schema mode. Arguments: address, key."""

import json
import sys
from typing import Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel
from ragas.llms import llm_factory
from ragas.llms.base import InstructorLLM, InstructorModelArgs
from ragas.metrics import DiscreteMetric


class Grade(BaseModel):
    """What the smallest model can still write."""

    value: Literal["pass", "fail"]


address, key = sys.argv[1:3]
client = OpenAI(base_url=f"{address}/v1", api_key=key)
few = InstructorModelArgs(max_tokens=128)  # the default is 1024, more than a small model has room for
strict = InstructorLLM(instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA), "judge", "openai", few)
said = {"strict": strict.generate("Is Oslo the capital of Norway?", Grade).value}
metric = DiscreteMetric(
    name="right", prompt="Does {response} answer {question}? Say pass or fail.", allowed_values=["pass", "fail"]
)
try:
    found = metric.score(
        llm=llm_factory("judge", client=client, max_tokens=128), question="Name the capital.", response="Oslo"
    )
    said["metric"] = found.value
except Exception as exc:  # the model wrote no such JSON, or the service refused; the class has moved between versions
    if type(exc).__name__ not in ("InstructorRetryException", "IncompleteOutputException"):
        raise
    said["metric_error"] = type(exc).__name__
print(json.dumps(said))
