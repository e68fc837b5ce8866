"""Writes random_torch.npz: what torch 2.13 draws on the CPU, for tests without torch.

Run as `python -m tests.data.make_random_data` where torch is installed.
"""

from pathlib import Path

import numpy as np
import torch

from tests.frontends.random_cases import CASES, SEED, torch_bytes

SIZES = (7, 16, 41)


def drawn(case) -> np.ndarray:
    """The bytes of the case's draws for all sizes on one stream."""
    torch.manual_seed(SEED)
    return np.concatenate([torch_bytes(torch, case.theirs(torch, n)) for n in SIZES])


if __name__ == "__main__":
    arrays = {case.name: drawn(case) for case in CASES}
    torch.manual_seed(SEED)
    torch.rand(1000)
    torch.empty(3).normal_()
    arrays["state"] = torch.get_rng_state().numpy()
    np.savez_compressed(Path(__file__).with_name("random_torch.npz"), **arrays)
