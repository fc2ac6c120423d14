"""Simulation of shards on the nodes of a cluster: a driver that takes time for each task, and nodes that fail."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass

# Ray takes a node for lost after some refused health checks.
_NOTICE_SECONDS = 30.0


@dataclass(frozen=True)
class Cluster:
    nodes: int = 1000  # Number of nodes.
    cores: int = 16  # Number of tasks that a node runs at a time.
    failures_per_hour: float = 0.01  # Probability that a node fails within an hour.
    repair_seconds: float = 600.0  # Time until another node takes its place.


@dataclass(frozen=True)
class Outcome:
    seconds: float  # Time from the first task to the last result.
    lost_tasks: int  # Number of tasks that were lost with their nodes and made again from where they were.
    driver_share: float  # Share of the time in which the driver was busy.
    worker_share: float  # Share of the cores' time in which they worked on videos.


def simulate(
    n_tasks: int, task_seconds: Sequence[float], driver_seconds: float, cluster: Cluster, seed: int = 0
) -> Outcome:
    """Run tasks whose lengths are drawn from `task_seconds`; the driver spends `driver_seconds` on each.

    As in `RayTasks`, twice as many tasks as there are cores are handed out at a time. A finished video is kept, so a
    task that is lost goes on with what is left of it, once the loss is noticed.
    """
    dice = random.Random(seed)
    n_slots = cluster.nodes * cluster.cores
    rate = cluster.failures_per_hour / 3600
    fails = [dice.expovariate(rate) if rate else float("inf") for _ in range(cluster.nodes)]
    free = [(0.0, slot) for slot in range(n_slots)]
    again: list[tuple[float, float]] = []  # Time from which a lost task may run again, and what is left of it.
    ends: list[float] = []
    driver, worked, last, lost, handed_out = 0.0, 0.0, 0.0, 0, 0
    while handed_out < n_tasks or again:
        begun, slot = heapq.heappop(free)
        node = slot // cluster.cores
        begun = max(begun, driver)
        while fails[node] + cluster.repair_seconds <= begun:
            fails[node] += cluster.repair_seconds + dice.expovariate(rate)
        if fails[node] <= begun:  # no task is placed on a node that is gone
            heapq.heappush(free, (fails[node] + cluster.repair_seconds, slot))
            continue
        if again and (again[0][0] <= begun or handed_out == n_tasks):
            ready, length = heapq.heappop(again)
        else:
            length = dice.choice(task_seconds)
            ready = driver = driver + driver_seconds
            if len(ends) >= 2 * n_slots:  # until a result is there, no further task is handed out
                ready = driver = max(driver, heapq.heappop(ends))
            handed_out += 1
        begun = min(max(begun, ready), fails[node])
        end = begun + length
        if end <= fails[node]:
            worked += length
            heapq.heappush(free, (end, slot))
            heapq.heappush(ends, end)
            last = max(last, end)
            continue
        lost += 1
        worked += fails[node] - begun
        heapq.heappush(again, (fails[node] + _NOTICE_SECONDS, end - fails[node]))
        # The node's other tasks are lost at the same time, which holds until the node has been replaced.
        heapq.heappush(free, (fails[node] + cluster.repair_seconds, slot))
    seconds = max(last, driver)
    return Outcome(seconds, lost, n_tasks * driver_seconds / seconds, worked / (seconds * n_slots))
