"""MLflow: a judge of mlflow.genai. Arguments: address, key."""

import json
import os
import sys
import tempfile
from typing import Literal

from mlflow.genai.judges import make_judge

folder = tempfile.mkdtemp()
address, key = sys.argv[1:3]
os.environ.update(
    OPENAI_API_BASE=f"{address}/v1",
    OPENAI_API_KEY=key,
    MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db",
)
judge = make_judge(
    name="right",
    instructions="Does {{ outputs }} answer {{ inputs }}?",
    model="openai:/judge",
    feedback_value_type=Literal["yes", "no"],
    inference_params={"max_tokens": 256, "temperature": 0},
)
found = judge(inputs={"question": "Name the capital of Norway."}, outputs={"answer": "Oslo"})
print(json.dumps({"value": found.value, "rationale": found.rationale, "error": found.error and str(found.error)}))
