"""The leg `plain` of bench_serve.py: as tutorials serve, but on starlette, as FastAPI adds its own time.

python tests/benchmarks/plain_leg.py MODEL PORT
"""

import io
import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torchvision import transforms

from labels import MASKED_FACES
from model_files import load


def main(model_dir: Path, port: int) -> None:
    """Serve an image at a time in the thread pool: Pillow, torchvision's transforms, the model, float32."""
    model, description = load(model_dir)
    preparation = description.preparation
    to_input = transforms.Compose(
        [
            transforms.Resize(preparation.size),
            transforms.ToTensor(),
            transforms.Normalize(preparation.mean, preparation.std),
        ]
    )

    def predict(body: bytes) -> dict[str, Any]:
        image = Image.open(io.BytesIO(body)).convert("RGB")
        with torch.inference_mode():
            probabilities = model(to_input(image).unsqueeze(0)).softmax(1)[0]
        label = int(probabilities.argmax())
        return {"prediction": label, "label": MASKED_FACES.classes[label], "probability": float(probabilities[label])}

    async def invocations(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(predict, await request.body()))

    async def ping(request: Request) -> Response:
        return Response()

    routes = [Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
