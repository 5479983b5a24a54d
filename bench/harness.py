"""Measuring: groups of processes with a fixed number of threads each, all training at the same time, timed in step.

Groups are started once and idle between measurements, so that measurements of different groups can take turns.
"""

import gc
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier, Event
from typing import Any

import torch

START_S = 300.0  # for all processes of a group to be warm


@dataclass(frozen=True)
class Window:
    """How long to measure: after `warmup` steps, at least `seconds` and at least `steps`."""

    warmup: int
    seconds: float
    steps: int


class Finished(Exception):
    """Raised by a clock to end a training that would go on for ever."""


class Clock:
    """Images per second of one process, counted from a moment when all are warm; each trains on until all have counted."""

    def __init__(self, window: Window, warm: Barrier, counted: list[Event], mine: int) -> None:
        self.window, self.warm, self.counted, self.mine = window, warm, counted, mine
        self.steps, self.images, self.start = 0, 0, 0.0
        self.rate: float | None = None

    def tick(self, images: int) -> None:
        """One step is done. Raises: Finished when every process has its number."""
        self.steps += 1
        if self.steps < self.window.warmup:
            return
        if self.steps == self.window.warmup:
            self.warm.wait(START_S)
            self.start = time.perf_counter()
            return
        if self.rate is None:
            self.images += images
            elapsed = time.perf_counter() - self.start
            if elapsed >= self.window.seconds and self.steps - self.window.warmup >= self.window.steps:
                self.rate = self.images / elapsed
                self.counted[self.mine].set()
        if self.rate is not None and all(event.is_set() for event in self.counted):
            raise Finished


Work = Callable[[Any, Callable[[int], None]], None]  # (job, tick): train until tick raises


class Group:
    """`processes` processes of `threads` threads each that run `work`, a function at the top level of a module."""

    def __init__(self, processes: int, threads: int, work: Work) -> None:
        self.processes, self.threads = processes, threads
        context = multiprocessing.get_context("spawn")
        # kept here: a semaphore that its maker forgets is gone for a child that is still starting
        self._warm, self._counted = context.Barrier(processes), [context.Event() for _ in range(processes)]
        self._pipes: list[Connection] = []
        self._children: list[SpawnProcess] = []
        inherited = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        try:
            for k in range(processes):
                mine, theirs = context.Pipe()
                child = context.Process(target=_serve, args=(theirs, threads, work, self._warm, self._counted, k))
                child.start()
                theirs.close()  # so that a child that dies closes the pipe
                self._pipes.append(mine)
                self._children.append(child)
        finally:
            if inherited is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = inherited

    def measure(self, job: Any, window: Window) -> float:
        """Images per second of all processes together. Raises: RuntimeError when one of them failed."""
        for event in self._counted:
            event.clear()
        for pipe in self._pipes:
            pipe.send((job, window))
        answers = [self._answer(pipe, job) for pipe in self._pipes]
        return sum(answers)

    def _answer(self, pipe: Connection, job: Any) -> float:
        try:
            answer = pipe.recv()
        except (EOFError, ConnectionResetError):
            raise RuntimeError(f"a process died while measuring {job} (out of memory?)") from None
        if isinstance(answer, str):
            raise RuntimeError(f"{job}: {answer}")
        return float(answer)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for child in self._children:
            child.join(10)
            if child.is_alive():
                child.terminate()


def _serve(pipe: Connection, threads: int, work: Work, warm: Barrier, counted: list[Event], mine: int) -> None:
    """A process of a group: measure what is asked until the pipe closes."""
    torch.set_num_threads(threads)
    while True:
        try:
            job, window = pipe.recv()
        except (EOFError, OSError):
            return
        clock = Clock(window, warm, counted, mine)
        try:
            work(job, clock.tick)
        except Finished:
            pass  # the number is sent once all that the job started (a loader's worker above all) is gone and disturbs nobody
        except Exception as error:  # the boundary of a process: the parent says what failed
            warm.abort()
            pipe.send(f"{type(error).__name__}: {error}")
            return
        gc.collect()
        pipe.send(clock.rate)
