"""train.py in limited GPU memory: BYTES (0 for all), then its options; prints the most bytes that torch reserved."""

import sys

import torch

import train


def main() -> None:
    limit = int(sys.argv.pop(1))
    if limit:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(limit / total)
    train.main()
    print(f"reserved: {torch.cuda.max_memory_reserved()}", flush=True)


if __name__ == "__main__":
    main()
