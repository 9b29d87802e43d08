"""The limits of SageMaker that options, checks and the server rest on: one constant for each.

Lengths and patterns of requests are not here: jobs/limits.py reads them from botocore's description of the service.
"""

# batch transform
BATCH_TRANSFORM_MB = 100  # largest MaxPayloadInMB, and largest product of MaxConcurrentTransforms and MaxPayloadInMB
DEFAULT_PAYLOAD_MB = 6  # MaxPayloadInMB where nothing is given
INVOCATION_SECONDS = 3600  # largest InvocationsTimeoutInSeconds
INVOCATION_RETRIES = 3  # largest InvocationsMaxRetries
TRANSFORM_VARIABLES = 16  # environment variables of a transform job

# instances
INSTANCES = 100  # of one training job, transform job or endpoint
VOLUME_GB = 16384  # largest volume of an instance

# serverless endpoints
SERVERLESS_MB = (1024, 2048, 3072, 4096, 5120, 6144)  # sizes
SERVERLESS_CONCURRENCY = 200  # largest MaxConcurrency

# time
TRAINING_HOURS = 28 * 24  # longest training job, waiting for spot instances included
PROCESSING_HOURS = 5 * 24  # longest processing job
WARM_POOL_MINUTES = 60  # longest time that an instance is kept for the next training job
STARTUP_SECONDS = (60, 3600)  # shortest and longest ContainerStartupHealthCheckTimeoutInSeconds of an endpoint

# names and searches
NAME_LENGTH = 63  # characters in the name of a job, a model or an endpoint
TUNING_NAME_LENGTH = 32  # characters in the name of a tuning job
TUNING_JOBS = 750  # training jobs of one tuning job
PARALLEL_TUNING_JOBS = 100  # of them at a time
