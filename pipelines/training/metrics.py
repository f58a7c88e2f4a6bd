"""The metrics file of a run: written by rank 0 step by step, followed by the driver."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from pipelines.core.files import write_text
from pipelines.core.progress import INTERVAL, clock, say

if TYPE_CHECKING:
    from pipelines.training.dpo import PairTrainer
