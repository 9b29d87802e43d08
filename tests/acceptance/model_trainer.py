"""What a user of SageMaker's SDK types to train with the image, as the README shows it.

.venv-acceptance/bin/python tests/acceptance/model_trainer.py <settings.json     image, data, root, epochs
"""

import json
import sys

from sagemaker.core.training.configs import Compute, InputData
from sagemaker.train.model_trainer import Mode, ModelTrainer

settings = json.load(sys.stdin)
trainer = ModelTrainer(
    training_image=settings["image"],
    training_mode=Mode.LOCAL_CONTAINER,
    compute=Compute(instance_type="local_cpu", instance_count=1),
    hyperparameters={"epochs": settings["epochs"], "model": "TinyModel", "resize": [32, 24]},
    local_container_root=settings["root"],
)
trainer.train(input_data_config=[InputData(channel_name="train", data_source=settings["data"])])
