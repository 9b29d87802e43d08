"""The flags of submit.py about each kind of job. Nothing here talks to AWS."""

from dataclasses import dataclass

from jobs.checks import data_problems, model_problems, name_problems, pair_problems, pairs
from runtime.arguments import option

TRANSFORM_PAYLOAD_MB = 100  # SageMaker's limit for concurrency x payload of a batch transform


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training job; its hyperparameters follow after `--`, as for code/train.py."""

    name: str = option("mask-classifier", "name of the job; the time is added")
    data: str = option("", "images: a folder, which is uploaded, or s3://bucket/prefix")
    pretrained_data: str = option(
        "", "weights to start from (the `pretrained` channel): a folder or s3://bucket/prefix"
    )
    resume_from: str = option("", "go on from the checkpoints of this training job, with its data and hyperparameters")
    instance_type: str = option("ml.g5.xlarge", "machine to train on")
    volume_gb: int = option(50, "disk for data and scratch files, in GB", minimum=1, maximum=16384)
    max_hours: float = option(12.0, "longest time to train", above=0, maximum=28 * 24)
    spot: bool = option(True, "use spare capacity: cheaper, may be interrupted, goes on from its checkpoint")
    max_wait_hours: float | None = option(None, "spot: longest time with waiting; default: twice --max-hours", above=0)
    warm_pool_minutes: int = option(0, "keep the machine this long for the next job", minimum=0, maximum=60)
    input_mode: str = option("File", "copy the data first, or read it while training", choices=("File", "FastFile"))
    environment: str = option("", "name=value,... set in the container")

    def problems(self) -> list[str]:
        """What is wrong with the flags taken together, one sentence each."""
        problems = name_problems(self.name) + data_problems("data", self.data)
        if self.pretrained_data:
            problems += data_problems("pretrained-data", self.pretrained_data)
        if self.resume_from:
            problems += name_problems(self.resume_from, flag="resume-from", most=63)
        if self.spot and self.warm_pool_minutes:
            problems.append(
                "--warm-pool-minutes: a warm pool cannot be had on spot instances; add --spot false or leave it out"
            )
        if self.spot and self.wait_hours < self.max_hours:
            problems.append(f"--max-wait-hours: {self.wait_hours:g} is less than --max-hours {self.max_hours:g}")
        if not self.spot and self.max_wait_hours is not None:
            problems.append("--max-wait-hours: only a spot job waits; add --spot true or leave it out")
        return problems + pair_problems("environment", self.environment)

    @property
    def wait_hours(self) -> float:
        """How long a spot job may take in all, at most 28 days."""
        return min(2 * self.max_hours, 28 * 24.0) if self.max_wait_hours is None else self.max_wait_hours


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The search for hyperparameters."""

    search: str = option("", "what to try, such as lr=0.001:0.1:log,batch_size=32:128,optimizer=SGD:AdamW")
    objective: str = option("val:f1", "validation metric that training logs: a loss is brought down, any other up")
    strategy: str = option("Bayesian", "how to choose what to try next", choices=("Bayesian", "Random", "Hyperband"))
    max_jobs: int = option(20, "training jobs in all", minimum=1, maximum=750)
    max_parallel_jobs: int = option(2, "training jobs at a time", minimum=1, maximum=100)
    early_stopping: bool = option(True, "stop jobs that fall behind; Hyperband does so in its own way")

    def problems(self) -> list[str]:
        """What is missing or does not fit, one sentence each."""
        problems = [] if self.search else ["--search: needed, such as --search lr=0.001:0.1:log"]
        if self.max_parallel_jobs > self.max_jobs:
            problems.append(f"--max-parallel-jobs: {self.max_parallel_jobs} is more than --max-jobs {self.max_jobs}")
        if self.strategy == "Hyperband" and "epochs" in pairs(self.search):
            problems.append("--search epochs: Hyperband chooses the epochs; give the most, such as -- --epochs 30")
        return problems + pair_problems("search", self.search)


@dataclass(frozen=True, kw_only=True)
class Transform:
    """The batch transform."""

    name: str = option("mask-classifier", "name of the job; the time is added")
    model: str = option("", "what to label with: a training job, or s3://bucket/key/model.tar.gz")
    data: str = option("", "images to label: a folder, whose images are uploaded, or s3://bucket/prefix")
    instance_type: str = option("ml.g5.xlarge", "machine to label on")
    instance_count: int = option(1, "how many of them", minimum=1, maximum=100)
    concurrency: int = option(16, "images on the way to one machine at a time", minimum=1)
    max_payload_mb: int = option(6, "largest image, in MB", minimum=1, maximum=TRANSFORM_PAYLOAD_MB)
    timeout_seconds: int = option(600, "longest wait for one answer", minimum=1, maximum=3600)
    max_retries: int = option(3, "how often to ask again", minimum=0, maximum=3)
    accept: str = option(
        "application/json", "form of the answers", choices=("application/json", "application/jsonlines")
    )
    ami_version: str = option(
        "al2-ami-sagemaker-batch-gpu-535", "system of a GPU machine; its driver decides which CUDA can be used"
    )
    environment: str = option("", "name=value,... set in the container, at most 16")

    def problems(self) -> list[str]:
        """What is missing or does not fit, one sentence each."""
        problems = name_problems(self.name) + model_problems(self.model) + data_problems("data", self.data)
        if (product := self.concurrency * self.max_payload_mb) > TRANSFORM_PAYLOAD_MB:
            problems.append(
                f"--concurrency {self.concurrency} x --max-payload-mb {self.max_payload_mb} is {product} MB, at most "
                f"{TRANSFORM_PAYLOAD_MB} MB are allowed; lower one of them"
            )
        return problems + pair_problems("environment", self.environment)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The processing job that compares labels with the truth; flags of code/evaluation.py follow after `--`."""

    name: str = option("mask-classifier", "name of the job; the time is added")
    predictions: str = option("", "where output.csv is: a folder, which is uploaded, or s3://bucket/prefix")
    ground_truth: str = option("", "where gt.csv is: a folder, which is uploaded, or s3://bucket/prefix")
    instance_type: str = option("ml.m5.large", "machine to compute on; no GPU is needed")
    max_hours: float = option(1.0, "longest time to run", above=0, maximum=5 * 24)
    volume_gb: int = option(30, "disk, in GB", minimum=1, maximum=16384)

    def problems(self) -> list[str]:
        """What is missing, one sentence each."""
        return (
            name_problems(self.name)
            + data_problems("predictions", self.predictions)
            + data_problems("ground-truth", self.ground_truth)
        )


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The real-time endpoint."""

    name: str = option("mask-classifier", "name of the endpoint; the time is added")
    model: str = option("", "what to answer with: a training job, or s3://bucket/key/model.tar.gz")
    instance_type: str = option("ml.g5.xlarge", "machine to answer on")
    instance_count: int = option(1, "how many of them", minimum=1, maximum=100)
    ami_version: str = option("al2023-ami-sagemaker-inference-gpu-4-1", "system of a GPU machine, with its driver")
    startup_seconds: int = option(600, "longest time until the model answers", minimum=60, maximum=3600)
    environment: str = option("", "name=value,... set in the container")

    def problems(self) -> list[str]:
        """What is missing, one sentence each."""
        problems = name_problems(self.name) + model_problems(self.model)
        return problems + pair_problems("environment", self.environment)


@dataclass(frozen=True, kw_only=True)
class Registration:
    """The entry in the model registry."""

    group: str = option("mask-classifier", "model package group; made if it is absent")
    model: str = option("", "what to register: a training job, or s3://bucket/key/model.tar.gz")
    evaluation: str = option("", "how good it is: an evaluation job, or s3://bucket/key/evaluation.json")
    approve: bool = option(False, "approve it at once; otherwise a person does")

    def problems(self) -> list[str]:
        """What is missing, one sentence each."""
        problems = name_problems(self.group, flag="group", most=63) + model_problems(self.model)
        if not self.evaluation:
            problems.append("--evaluation: needed, an evaluation job or s3://bucket/key/evaluation.json")
        return problems
