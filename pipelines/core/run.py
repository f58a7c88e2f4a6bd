"""A run: where its files are, by name, and the few values that every room needs of the config."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.core.storage import Place


@dataclass(frozen=True)
class Run:
    """One run of the system; the only place where the names of its folders are written.

    Attributes:
        out: the run's folder, `out_dir`.
        data_root: folder of local sources and benchmarks.
        seed: of every random choice.
        max_error_share: share of a segment's rows that may end as errors.
    """

    out: Place
    data_root: Place | None = None
    seed: int = 0
    max_error_share: float = 0.2

    @property
    def work(self) -> Place:
        """Intermediate results, a folder each."""
        return self.out / "work"

    @property
    def log(self) -> Place:
        """Every job that ran here: config, versions, nodes, times, cost."""
        return self.out / "run.json"

    @property
    def lock(self) -> Place:
        """Who is at work."""
        return self.out / "lock"

    @property
    def curated(self) -> Place:
        """The products of curation."""
        return self.out / "curated"

    @property
    def pairs(self) -> Place:
        """The curated preference pairs."""
        return self.curated / "data"

    @property
    def quarantine(self) -> Place:
        """The rows that curation turned away, each with its reason."""
        return self.curated / "quarantine"

    @property
    def ledger(self) -> Place:
        """How many rows went where."""
        return self.curated / "ledger.json"

    @property
    def training(self) -> Place:
        """What training notes of itself."""
        return self.out / "train"

    @property
    def training_log(self) -> Place:
        """One line per logged optimizer step."""
        return self.training / "metrics.jsonl"

    @property
    def model(self) -> Place:
        """The trained judge."""
        return self.out / "model"

    @property
    def reference(self) -> Place:
        """The frozen model's log-probabilities of the pairs."""
        return self.curated / "reference"

    @property
    def rounds(self) -> Place:
        """Of recipe `rs_sft`, a run for each round: what was sampled, what was kept, and the models between."""
        return self.out / "rounds"

    @property
    def judged(self) -> Place:
        """The products of the batch judge, unless its config names another folder."""
        return self.out / "judged"

    @property
    def judge_work(self) -> Place:
        """Work of the batch judge, a folder for each input and config."""
        return self.work / "judge-files"

    @property
    def benchmark(self) -> Place:
        """The products of evaluation."""
        return self.out / "benchmark"

    @property
    def judgments(self) -> Place:
        """Every judgment of every model, one parquet file a model."""
        return self.benchmark / "judgments"

    @property
    def results(self) -> Place:
        """Every figure of the evaluation."""
        return self.benchmark / "results.json"

    @property
    def report(self) -> Place:
        """The page that shows them."""
        return self.benchmark / "report.html"

    @property
    def sweep(self) -> Place:
        """A folder for each training of a sweep, and what compares them."""
        return self.out / "sweep"

    @property
    def recipes(self) -> Place:
        """A run for each recipe that is compared, and what compares them."""
        return self.out / "recipes"

    @property
    def experiments(self) -> Place:
        """A folder for each experiment, and the page over all of them."""
        return self.out / "experiments"

    @property
    def leaks(self) -> Place:
        """What training sets share with benchmarks, and the sets without it."""
        return self.experiments / "leaks"

    @property
    def calibrated(self) -> Place:
        """Judged systems compared by a few labels of people."""
        return self.experiments / "calibrate"

    @property
    def audit(self) -> Place:
        """A sample of critique pairs, what is measured of them, and what people say."""
        return self.experiments / "audit"

    @property
    def release(self) -> Place:
        """What is ready to be pushed: the model, its GGUF files, the card of its data."""
        return self.out / "release"

    @property
    def pin(self) -> Place:
        """The judge that the drift gate compares with, unless its config names another folder."""
        return self.out / "certify" / "pin"
