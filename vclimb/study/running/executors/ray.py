"""Runs on the nodes of a Ray cluster, each run by one task. A worker of Ray keeps its process from run to run.

All nodes see the study's folder and the data set under the same paths, and have vclimb installed. A run that is lost
with its node is started again elsewhere, and goes on from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Self

from vclimb.pipeline.system.ray_cluster import LOST_NODES, RayTasks, connect
from vclimb.study.running.executor import RunCommand, RunExecutor, RunJob
from vclimb.study.running.places import AutoJobs, Places, check_jobs, fixed_jobs
from vclimb.study.running.run_process import RunProcess, started, stop_processes

_LOOK_SECONDS = 0.5


class RayRunExecutor(RunExecutor):
    """Nodes of a Ray cluster, which see the same files.

    Where the cluster has GPUs, each run takes `1 / jobs_per_gpu` of one. Ray shares GPUs out by this number alone: a
    run that finds too little memory on its GPU fails, and says so.

    Args:
        jobs: Number of runs at a time on all nodes; None: as many as the GPUs take, or one for each node.
        gpus: Unused, since Ray chooses the GPUs.
        jobs_per_gpu: Number of runs that share a GPU.
        address: Address of the cluster. None: the one that RAY_ADDRESS or `ray start` names, else a cluster of this
            machine that ends with this process.
    """

    name = "ray"
    summary = "Nodes of a Ray cluster (pip install 'vclimb[ray]')."

    def __init__(
        self,
        jobs: int | None = None,
        gpus: Sequence[str] = (),
        jobs_per_gpu: int = 1,
        address: str | None = None,
    ) -> None:
        check_jobs(jobs, None)
        self._ray = connect(address)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        gpu_nodes = [node for node in nodes if node.get("GPU")]
        n_gpus = int(sum(node["GPU"] for node in gpu_nodes))
        super().__init__(jobs or n_gpus * jobs_per_gpu or max(1, len(nodes)))
        self._gpu_share = 1 / jobs_per_gpu if n_gpus else 0.0
        self._n_gpus = n_gpus
        if n_gpus:
            cores = min(node["CPU"] / node["GPU"] for node in gpu_nodes) / jobs_per_gpu
        else:
            total = sum(node["CPU"] for node in nodes)
            cores = min([total / self.jobs, *(node["CPU"] for node in nodes)])
        self._cores = max(1, int(cores))

    @classmethod
    def for_study(cls, jobs: int | AutoJobs | None, gpus: str | Sequence[int | str], jobs_per_gpu: int | None) -> Self:
        check_jobs(jobs, jobs_per_gpu)
        return cls(fixed_jobs(jobs), jobs_per_gpu=jobs_per_gpu or 1)

    @property
    def places(self) -> Places:
        return Places(self.jobs, tuple(map(str, range(self._n_gpus))), self._cores * self.jobs)

    def run(self, jobs: Sequence[RunJob]) -> Generator[tuple[RunJob, int], None, None]:
        """Run the command of each job in a task."""
        resources = {"num_cpus": self._cores, "num_gpus": self._gpu_share}
        # Ray ends a worker after a task with a GPU, unless it may be called any number of times (0).
        remote = self._ray.remote(**resources, max_retries=LOST_NODES, max_calls=0)(_run)
        calls = [(job, (job.command(), job)) for job in jobs]
        with closing(RayTasks(self._ray, remote, calls, self.jobs, RunJob.waits_for).results()) as statuses:
            yield from statuses


_process: RunProcess | None = None  # of this worker of Ray, which runs one task at a time


def _run(command: RunCommand, job: RunJob) -> int:
    """Run a command on this node and return its exit status."""
    global _process
    while job.is_running:  # a process of the task that was lost, on a node that is still alive
        time.sleep(_LOOK_SECONDS)
    process, _process = started(_process, command, job.study.path), None
    try:
        while (status := process.status()) is None:
            time.sleep(_LOOK_SECONDS / 5)
    except BaseException:  # the task was cancelled
        stop_processes([process])
        raise
    if status:
        stop_processes([process])
    else:
        _process = process
    return status
