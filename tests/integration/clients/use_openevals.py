"""OpenEvals: create_llm_as_judge with an openai client. Arguments: address, key."""

import json
import sys

from openai import OpenAI
from openevals.llm import create_llm_as_judge

address, key = sys.argv[1:3]
client = OpenAI(base_url=f"{address}/v1", api_key=key)
prompt = "Does the output answer the input?\n{inputs}\n{outputs}"
judge = create_llm_as_judge(
    prompt=prompt, judge=client, model="judge", feedback_key="right", choices=[0.0, 1.0], use_reasoning=False
)
print(json.dumps(judge(inputs="Name the capital of Norway.", outputs="Oslo")))
