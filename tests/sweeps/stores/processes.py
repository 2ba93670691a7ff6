"""Real processes at one store, for races between them."""

import multiprocessing
import os

forkserver = multiprocessing.get_context("forkserver")  # a fresh process takes seconds to import
forkserver.set_forkserver_preload(["sweeps.stores.store"])


def within(environment: dict[str, str], target, *arguments) -> None:
    os.environ.clear()  # the server's is that of whichever test was first, and may name another store
    os.environ.update(environment)
    target(*arguments)


def process(target, *arguments):
    return forkserver.Process(target=within, args=(dict(os.environ), target, *arguments))


def in_processes(target, count: int, limit: int) -> list:
    barrier, queue = forkserver.Barrier(count), forkserver.Queue()
    processes = [process(target, barrier, queue, limit) for _ in range(count)]
    for each in processes:
        each.start()
    results = [queue.get(timeout=120) for _ in processes]
    for each in processes:
        each.join()
    return results
