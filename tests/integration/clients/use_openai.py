"""The openai package: models, a chat, a streamed chat, and a grader's run and check. Arguments: address, key."""

import json
import sys

from openai import OpenAI

address, key = sys.argv[1:3]
client = OpenAI(base_url=f"{address}/v1", api_key=key)
model = next(iter(client.models.list())).id
ask = [{"role": "user", "content": "Name the capital of Norway."}]

chat = client.chat.completions.create(model=model, messages=ask, max_tokens=16, temperature=0, seed=1)
stream = client.chat.completions.create(
    model=model, messages=ask, max_completion_tokens=16, stream=True, stream_options={"include_usage": True}
)
pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
grader = {
    "type": "score_model",
    "name": "right",
    "model": model,
    "input": [{"role": "user", "content": "Is {{sample.output_text}} the answer to: {{item.question}}"}],
    "range": [1, 5],
}
run = client.fine_tuning.alpha.graders.run(
    grader=grader, model_sample="Oslo", item={"question": "What is the capital of Norway?"}
)
said = {
    "model": model,
    "chat": chat.choices[0].message.content,
    "streamed": len(pieces),
    "reward": run.reward,
    "grader_errors": [name for name, value in run.metadata.errors.model_dump().items() if value is True],
}
print(json.dumps(said))
