"""Archives on a real Ray cluster of two nodes: the same masks, with a worker and a node lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segedge.batch.on_ray import RayPool, layout_of
from segedge.batch.options import Job
from segedge.batch.plan import Shard
from segedge.batch.run import BatchReport, run_batch
from segedge.errors import BackendError, SinkError, UsageError
from tests.batch.archives import OPTIONS, HerePool, files_below, rows
from tests.processes import ended

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without work and two nodes of one CPU, each with its own processes."""
    pytest.importorskip("ray", reason="pip install 'segedge[ray]'")
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick, **small}
    )
    made.add_node(num_cpus=1, **small)
    made.add_node(num_cpus=1, **small)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def expected(model: Path, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that one worker of this process makes."""
    out = tmp_path_factory.mktemp("expected") / "out"
    run_batch(model, [str(inputs)], str(out), options=OPTIONS, make_pool=HerePool)
    return out


def same(out: Path, expected: Path) -> bool:
    """Masks byte for byte, and the table."""
    return files_below(out / "masks") == files_below(expected / "masks") and rows(out) == rows(
        expected
    )


class Disturbed(RayPool):
    """Calls `disturb` once, with the process of a worker that was just given a shard."""

    disturb: Any = None

    @property
    def free(self) -> int:
        """None before both have started: one alone may be through with everything."""
        waits = self.disturb is not None and not all(actor.has_started for actor in self._actors)
        return 0 if waits else super().free

    def give(self, shard: Shard) -> None:
        super().give(shard)
        if self.disturb is not None:
            self.disturb, disturb = None, self.disturb
            name = next(actor.name for actor in self._actors if actor.shard is shard)
            disturb(int(name.rpartition(":")[2]))


def on_ray(cluster: Any, model: Path, inputs: Path, out: Path, disturb: Any = None) -> BatchReport:
    def pool(job: Job) -> RayPool:
        made = Disturbed(job, address=cluster.address)
        made.disturb = disturb
        return made

    return run_batch(model, [str(inputs)], str(out), options=OPTIONS, make_pool=pool)


def test_the_command(
    cluster: Any, model: Path, inputs: Path, expected: Path, tmp_path: Path
) -> None:
    """Two workers on two nodes; standard output holds nothing but the JSON."""
    words = ["batch", model, inputs, "-o", tmp_path / "out", "--shard", 6, "--json"]
    words += ["--backend", "onnxruntime", "--ray", cluster.address]
    done = ended([sys.executable, "-m", "segedge", *map(str, words)], seconds=240)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["rows"], report["workers"], report["workers_lost"]) == (49, 2, 0)
    assert same(tmp_path / "out", expected)
    marks = (tmp_path / "out" / "shards").glob("*.json")
    assert len({json.loads(path.read_text())["worker"] for path in marks}) == 2


def test_a_killed_worker(
    cluster: Any, model: Path, inputs: Path, expected: Path, tmp_path: Path
) -> None:
    """kill -9 of an actor's process in mid-run, by its own number."""
    killed: list[int] = []

    def kill(process: int) -> None:
        killed.append(process)
        os.kill(process, signal.SIGKILL)

    report = on_ray(cluster, model, inputs, tmp_path / "out", kill)
    assert (len(killed), report.workers_lost, report.failures) == (1, 1, ())
    assert same(tmp_path / "out", expected)


def test_a_worker_that_ray_ends_for_memory(
    cluster: Any, model: Path, inputs: Path, expected: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Ray's memory monitor is told by an error of its own: one worker is lost, not the run."""
    import ray

    get = ray.get

    def ends(process: int) -> None:
        def once(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.setattr(ray, "get", get)
            raise ray.exceptions.OutOfMemoryError("the node runs low on memory")

        monkeypatch.setattr(ray, "get", once)

    report = on_ray(cluster, model, inputs, tmp_path / "out", ends)
    assert (report.workers_lost, report.failures) == (1, ())
    assert same(tmp_path / "out", expected)


def test_refusals(cluster: Any, model: Path, inputs: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    def older(job: Job) -> RayPool:
        return RayPool(replace(job, version="0.0.1"), address=cluster.address)

    with pytest.raises(UsageError, match="has another version of segedge") as refused:
        run_batch(model, [str(inputs)], str(tmp_path / "a"), options=OPTIONS, make_pool=older)
    assert refused.value.facts["expected"] == "0.0.1"

    def elsewhere(job: Job) -> RayPool:
        return RayPool(replace(job, out=str(tmp_path / "c")), address=cluster.address)

    with pytest.raises(SinkError, match="does not see"):
        run_batch(model, [str(inputs)], str(tmp_path / "b"), options=OPTIONS, make_pool=elsewhere)

    def large(job: Job) -> RayPool:
        return RayPool(job, address=cluster.address, threads=3)

    with pytest.raises(UsageError, match="no node of the cluster has 3 CPUs"):
        run_batch(model, [str(inputs)], str(tmp_path / "d"), options=OPTIONS, make_pool=large)


def test_a_removed_node(
    cluster: Any, model: Path, inputs: Path, expected: Path, tmp_path: Path
) -> None:
    """The last test: a node with a shard in work goes away, and the other one does the rest."""
    removed: list[str] = []

    def remove(process: int) -> None:
        node = next(iter(cluster.worker_nodes))
        removed.append(node.node_id)
        cluster.remove_node(node, allow_graceful=False)

    report = on_ray(cluster, model, inputs, tmp_path / "out", remove)
    assert (len(removed), report.workers_lost, report.failures) == (1, 1, ())
    assert same(tmp_path / "out", expected)


def test_an_unreachable_cluster(model: Path, inputs: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'segedge[ray]'")
    with socket.socket() as listener:  # a port of nobody
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"

    def pool(job: Job, address: str = address) -> RayPool:
        return RayPool(job, address=address)

    with pytest.raises(BackendError, match=f"cluster at {address} cannot be reached"):
        run_batch(model, [str(inputs)], str(tmp_path), options=OPTIONS, make_pool=pool)
    with pytest.raises(UsageError, match="no address of a cluster"):
        RayPool(None, address="nowhere")  # type: ignore[arg-type]


def test_layouts() -> None:
    def found(nodes: list[tuple[float, float]], **more: Any) -> tuple[int, int, int]:
        layout = layout_of(nodes, **{"backend": "auto", **more})
        return layout.workers, layout.threads, layout.gpus

    assert found([(0, 0), (1, 0), (1, 0)]) == (2, 1, 0)
    assert found([(8, 0), (4, 0)]) == (6, 2, 0)
    assert found([(16, 4), (8, 2), (4, 0)]) == (6, 4, 1)
    assert found([(16, 4)], backend="openvino:bf16") == (8, 2, 0)
    assert found([(8, 0)], workers=2, threads=3) == (2, 3, 0)
    with pytest.raises(UsageError, match="no node of the cluster has 4 CPUs"):
        layout_of([(2, 0)], backend="auto", threads=4)


def test_the_option_may_stand_alone() -> None:
    from segedge.cli.main import with_values

    assert with_values(["batch", "--ray", "m.onnx"]) == ["batch", "--ray=", "m.onnx"]
    assert with_values(["--ray", "head:6379"]) == ["--ray", "head:6379"]
    assert with_values(["--ray", "ray://head:10001"]) == ["--ray", "ray://head:10001"]
