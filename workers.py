"""Work on all processors at once, each worker computing with one of PyTorch's threads.

Several threads inside one operator of a small network spend much of their time waiting for each other; several networks
side by side do not.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import torch

__all__ = ["one_thread", "single_threaded_workers"]


@contextmanager
def one_thread() -> Iterator[int]:
    """PyTorch computes with one thread, so that results do not depend on how many there are; gives that number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@contextmanager
def single_threaded_workers() -> Iterator[ThreadPoolExecutor]:
    """As many workers as PyTorch has threads.

    What is not begun when the block is left by an exception is not done.
    """
    with one_thread() as threads:
        # PyTorch keeps the number per thread.
        pool = ThreadPoolExecutor(threads, "espalier", partial(torch.set_num_threads, 1))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
