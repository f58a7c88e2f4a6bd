"""DeepEval: GEval with LocalModel. Arguments: address, key."""

import json
import sys

from deepeval.metrics import GEval
from deepeval.models import LocalModel
from deepeval.test_case import LLMTestCase, SingleTurnParams

address, key = sys.argv[1:3]
# A short schema, so that the smallest model ends within its limit.
schema = {
    "type": "object",
    "properties": {
        "score": {"type": "integer", "enum": list(range(11))},
        "reason": {"type": "string", "enum": ["right", "wrong"]},
    },
    "required": ["score", "reason"],
    "additionalProperties": False,
}
form = {"type": "json_schema", "json_schema": {"name": "grade", "schema": schema}}
model = LocalModel(
    model="judge",
    base_url=f"{address}/v1",
    api_key=key,
    generation_kwargs={"response_format": form, "max_tokens": 64},
)
metric = GEval(
    name="right",
    evaluation_steps=["Check whether the output answers the input."],
    evaluation_params=[SingleTurnParams.INPUT, SingleTurnParams.ACTUAL_OUTPUT],
    model=model,
    async_mode=False,
)
metric.measure(LLMTestCase(input="Name the capital of Norway.", actual_output="Oslo"), _show_indicator=False)
print(json.dumps({"score": metric.score, "reason": metric.reason}))
