"""The scripts and commands of docs/cluster.md, run as far as one machine can."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dataset_cases import command_environment
from training_cases import STATELESS_BACKBONE, comparable, final_network, read_metrics, tiny_config, write_config

import vclimb.training.trainer
from vclimb.training.run import train

PAGE = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text("utf-8")
RAY_SCRIPT, ARRAY_SCRIPT = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
STUB = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'
SCONTROL = "#!/bin/sh\nprintf 'node1\\nnode2\\nnode3\\n'\n"
# Runs its command here, after its own options.
SRUN = STUB + 'while case "$1" in --*) ;; *) false ;; esac; do shift; done\n"$@"\n'


def calls_of(script: str, folder: Path, **environment: str) -> list[str]:
    """Run a script with commands that only write down how they were called."""
    commands = {"scontrol": SCONTROL, "srun": SRUN, "ray": STUB, "vclimb": STUB}
    for name, content in commands.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    calls = folder / "calls"
    (folder / "script").write_text(script + "wait\n")
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    subprocess.run(
        ["bash", folder / "script"],
        env={**os.environ, "PATH": path, "CALLS": str(calls), **environment},
        check=True,
        timeout=60,
    )
    return calls.read_text().splitlines()


def test_script_starts_ray_on_each_node_of_a_job(tmp_path: Path) -> None:
    calls = calls_of(
        RAY_SCRIPT, tmp_path, SLURM_JOB_NODELIST="node[1-3]", SLURM_CPUS_PER_TASK="16", SLURM_JOB_NUM_NODES="3"
    )
    assert "ray start --head --port=6379 --num-cpus=16 --block" in calls
    assert "ray start --address node1:6379 --num-cpus=16 --block" in calls
    assert any(call.startswith("srun --nodes=1 --ntasks=1 --nodelist=node1 ray start --head") for call in calls)
    assert any(call.startswith("srun --nodes=2 --ntasks=2 --exclude=node1 ray start --address") for call in calls)
    (study,) = (call for call in calls if call.startswith("vclimb "))
    assert study.endswith("--executor ray --ray-address node1:6379")


def test_tasks_of_an_array_job_compute_parts(tmp_path: Path) -> None:
    (call,) = calls_of(ARRAY_SCRIPT, tmp_path, SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_TASK_COUNT="8")
    assert call.endswith("--only 3/8")


def test_manifest_mounts_what_each_pod_uses() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["entrypoint"].startswith("vclimb study run ")
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.timeout(230)
def test_two_hosts_train_as_one_with_two_processes(synth_shards: Path, tmp_path: Path) -> None:
    """Run the page's command as two agents on the loopback, against one process."""
    command = next(line for line in PAGE.splitlines() if line.startswith("    torchrun --nnodes 2")).split()
    settings = (f"model.backbone={STATELESS_BACKBONE}", "model.dropout=0.0", "memory.budget=9v")
    config = tiny_config(synth_shards, "naive", *settings)
    one = train(config, tmp_path / "one")
    options = command[1 : command.index("-m")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    agents = []
    for node in range(2):
        filled = [{"NODE": str(node), "HOST": "127.0.0.1", "4": "1", "29500": port}.get(word, word) for word in options]
        launch = [sys.executable, "-m", "torch.distributed.run", *filled, "-m", "vclimb.cli", "train"]
        arguments = ["--config", write_config(config, tmp_path), "--out", tmp_path / "two", "--json"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        agents.append(subprocess.Popen([*launch, *arguments], env=command_environment(), **pipes))
    ends = [(*agent.communicate(timeout=200), agent.returncode) for agent in agents]
    assert [status for _, _, status in ends] == [0, 0], ends
    assert sum(output.count('"complete": true') for output, _, _ in ends) == 1
    assert comparable(read_metrics(tmp_path / "two")) == comparable(one)
    assert final_network(tmp_path / "two").keys() == final_network(tmp_path / "one").keys()
    assert len(list(tmp_path.glob("two/**/memory.zarr"))) == 1


def test_run_that_does_not_fit_into_its_gpu_says_so(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def too_much(self: Any) -> Any:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"
        )

    monkeypatch.setattr(vclimb.training.trainer.Trainer, "train", too_much)
    with pytest.raises(vclimb.VclimbError, match=r"fit into the memory of cpu \(Tried to allocate 2.00 GiB\); take a"):
        train(tiny_config(synth_shards, "finetune"), tmp_path / "run")
