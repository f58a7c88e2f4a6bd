"""Inspect: a task that the judge answers and grades (model_graded_qa). Arguments: address, key."""

import json
import os
import sys
import tempfile

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import model_graded_qa

address, key = sys.argv[1:3]
os.environ.update(JUDGE_BASE_URL=f"{address}/v1", JUDGE_API_KEY=key)
grader = get_model("openai-api/judge/judge", config=GenerateConfig(max_tokens=64, temperature=0))
task = Task(dataset=[Sample(input="Name the capital of Norway.", target="Oslo")], scorer=model_graded_qa(model=grader))
with tempfile.TemporaryDirectory() as logs:
    (log,) = eval(task, model="openai-api/judge/judge", max_tokens=16, log_dir=logs, display="none")
    samples = log.samples or []  # read from the log's file only now
    grades = [str(sample.scores["model_graded_qa"].value) for sample in samples if sample.scores]
print(json.dumps({"status": log.status, "error": log.error and log.error.message, "grades": grades}))
