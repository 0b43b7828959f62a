"""Three processes that stay up for the whole session: starting them costs more than all their tests."""

import importlib
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import multiprocessing as mp

LARGEST = 3
PATIENCE = 60.0  # seconds before a silent process counts as hung


class Pool:
    """Runs a function of `tests.distributed.work`, or of `module:` there, on 1, 2 or 3 ranks of a fresh group."""

    def __init__(self, folder: Path) -> None:
        context = mp.get_context("forkserver")  # imports torch once, in a process of its own
        context.set_forkserver_preload(["torch", "tests.distributed.work", "tests.distributed.aligner_work"])
        self.folder, self.runs = folder, 0
        self.pipes: list[Connection] = []
        self.processes = []
        for rank in range(LARGEST):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, rank), daemon=True)
            process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)

    def run(self, name: str, world: int, arguments: Any, backend: str = "gloo") -> list[Any]:
        """What each rank returned, in order; a rank that fails or hangs fails the test."""
        self.runs += 1
        store = self.folder / f"store{self.runs}"
        for pipe in self.pipes[:world]:
            pipe.send((name, world, backend, str(store), arguments))
        answers = []
        for rank, pipe in enumerate(self.pipes[:world]):
            if not pipe.poll(PATIENCE):
                self.close()
                raise TimeoutError(f"{name}: rank {rank} of {world} said nothing for {PATIENCE:.0f} s")
            answers.append(pipe.recv())
        failed = [text for done, text in answers if not done]
        if failed:
            raise AssertionError("\n".join(failed))
        return [answer for _, answer in answers]

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


def _serve(pipe: Connection, rank: int) -> None:
    torch.set_num_threads(1)
    while True:
        name, world, backend, store, arguments = pipe.recv()
        try:
            module, _, function = name.rpartition(":")
            work = importlib.import_module(f"tests.distributed.{module or 'work'}")
            dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=world)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                answer = (True, getattr(work, function)(arguments))
            dist.barrier()
        except Exception:
            answer = (False, f"rank {rank} of {world}:\n{traceback.format_exc()}")
        if dist.is_initialized():
            dist.destroy_process_group()
        pipe.send(answer)
