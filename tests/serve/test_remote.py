"""The remote backend against a server that speaks the protocol, with real networks behind it."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import segedge
from segedge.backends.base import Backend
from segedge.card.card import ModelCard
from segedge.errors import BackendError, CardError, UsageError
from segedge.remote import RemoteBackend, RemoteOptions, parse_address
from segedge.segment.segmenter import Segmenter
from segedge.serve.options import TritonOptions
from segedge.serve.repository import write_repository
from tests.serve.kserve import Networks, RefusedError, grpc_server, http_server
from tests.serve.models import write_batch_model
from tests.serve.test_steps import frame_of
from tests.small_model import run_verb, write_model

SERVERS = {"grpc": grpc_server, "http": http_server}
IMAGE = np.linspace(-2, 2, 1 * 3 * 48 * 64, dtype=np.float32).reshape(1, 3, 48, 64)


@pytest.fixture(params=SERVERS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def networks(small: Path, tmp_path: Path) -> Networks:
    write_repository(small, tmp_path / "repo")
    return Networks(tmp_path / "repo")


class Started:
    """Servers that a test starts and stops."""

    def __init__(self, protocol: str, networks: Networks, stack: ExitStack) -> None:
        self.protocol, self.networks, self._stack = protocol, networks, stack
        self.port = 0
        self.start()

    def start(self) -> None:
        self._own = ExitStack()
        self._stack.push(self._own)
        context = SERVERS[self.protocol](self.networks, port=self.port)
        self.port = self._own.enter_context(context)

    def stop(self) -> None:
        self._own.close()

    def address(self, model: str = "small") -> str:
        return f"{self.protocol}://127.0.0.1:{self.port}/{model}"

    def open(self, model: str = "small", **options: Any) -> RemoteBackend:
        address, _ = parse_address(self.address(model))
        backend = RemoteBackend(address, options=RemoteOptions(**options))
        self._stack.callback(backend.close)
        return backend


@pytest.fixture
def server(protocol: str, networks: Networks) -> Iterator[Started]:
    with ExitStack() as stack:
        yield Started(protocol, networks, stack)


@pytest.fixture
def local(small: Path) -> Iterator[Backend]:
    from segedge.backends.onnxruntime import OnnxRuntimeBackend

    backend = OnnxRuntimeBackend(small, threads=1)
    yield backend
    backend.close()


@pytest.mark.parametrize("memory", ["shm", "wire"])
def test_it_computes_what_the_local_one_does(server: Started, local: Backend, memory: Any) -> None:
    backend = server.open(memory=memory)
    (expected,) = local.run([IMAGE])
    for _ in range(3):
        (made,) = backend.run([IMAGE])
        np.testing.assert_array_equal(made, expected)
    into = np.zeros_like(expected)
    (same,) = backend.run([IMAGE], [into])
    assert same is into
    np.testing.assert_array_equal(into, expected)
    again = backend.run([-IMAGE], [made])
    np.testing.assert_array_equal(again[0], local.run([-IMAGE])[0])
    assert backend.specs == local.specs
    assert backend.memory == "host"
    assert (server.networks.shared > 0) == (memory == "shm")
    assert ("shared memory" in backend.description) == (memory == "shm")
    assert "small version 1" in backend.description


def test_results_do_not_share_memory_with_the_next_run(server: Started) -> None:
    backend = server.open(memory="shm")
    backend.run([IMAGE])
    (one,) = backend.run([IMAGE])
    kept = one.copy()
    backend.run([-IMAGE])
    np.testing.assert_array_equal(one, kept)


@pytest.mark.parametrize("way", ["auto", "remote:wire"])
def test_segmenters_need_no_local_file(server: Started, small: Path, way: str) -> None:
    """Card and classes come from the server; labels and overlay are the local ones'."""
    with (
        segedge.load(server.address(), backend=way) as remote,
        segedge.load(small, backend="onnxruntime") as here,
    ):
        assert remote.card.classes == ("dark", "bright")
        assert remote.backend_name == ("remote" if way == "auto" else way)
        for size in ((90, 160), (31, 17), (90, 160)):
            one, other = remote(frame_of(*size)), here(frame_of(*size))
            np.testing.assert_array_equal(one.labels, other.labels)
            np.testing.assert_array_equal(one.overlay(), other.overlay())


def test_shared_memory_is_given_back(server: Started) -> None:
    def mine() -> set[str]:
        return {path.name for path in Path("/dev/shm").glob(f"segedge-{os.getpid()}-*")}

    before = mine()
    backend = server.open(memory="shm")
    backend.run([IMAGE])
    assert mine() - before
    assert server.networks.regions
    backend.close()
    assert mine() == before
    assert not server.networks.regions


def test_a_server_that_does_not_see_the_memory(server: Started, local: Backend) -> None:
    server.networks.takes_memory = False
    backend = server.open()
    assert "shared memory" not in backend.description
    np.testing.assert_array_equal(backend.run([IMAGE])[0], local.run([IMAGE])[0])
    with pytest.raises(BackendError, match="does not see the shared memory") as caught:
        server.open(memory="shm")
    assert "remote:wire" in str(caught.value)


def test_any_batch(protocol: str, tmp_path: Path) -> None:
    model = write_batch_model(tmp_path / "street.onnx")
    write_repository(model, tmp_path / "repo")
    with ExitStack() as stack:
        server = Started(protocol, Networks(tmp_path / "repo"), stack)
        backend = server.open("street")
        assert backend.specs[0][0].shape == (None, 3, 48, 64)
        for count in (1, 3, 3, 2):
            images = np.concatenate([IMAGE * k for k in range(count)])
            (made,) = backend.run([images])
            assert made.shape == (count, 2, 6, 8)


def test_a_server_that_is_not_there(protocol: str) -> None:
    with socket.socket() as deaf:  # bound, so that nobody else answers there
        deaf.bind(("127.0.0.1", 0))
        address = f"{protocol}://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(BackendError, match=f"no server at {address}") as caught:
            segedge.load(f"{address}/small")
    assert "efused" in caught.value.facts["found"]
    assert "tritonserver" in str(caught.value.fix)


def test_a_server_that_never_answers(protocol: str) -> None:
    """It takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{protocol}://127.0.0.1:{silent.getsockname()[1]}/small"
        options = RemoteOptions(connect_seconds=0.2, timeout_seconds=0.2)
        with pytest.raises(BackendError, match="no server at") as caught:
            RemoteBackend(address, options=options)
    assert caught.value.facts["found"] == "no answer within 0.2 s"


def test_something_else_answers(tmp_path: Path) -> None:
    networks = Networks(tmp_path)
    with http_server(networks) as port, pytest.raises(BackendError) as caught:
        segedge.load(f"http://127.0.0.1:{port}/gateway/v2/models/small")
    assert "not as an inference server" in caught.value.facts["found"]
    with http_server(networks) as port, pytest.raises(BackendError, match="no server at grpc"):
        segedge.load(f"grpc://127.0.0.1:{port}/small")


def test_no_such_model(server: Started) -> None:
    with pytest.raises(BackendError, match="has no model 'smal'; did you mean 'small'") as caught:
        server.open("smal")
    assert caught.value.facts["models"] == "small, small_frames"


def test_models_that_are_not_ready(server: Started) -> None:
    with pytest.raises(BackendError, match="small_tail is not ready") as caught:
        server.open("small_tail")
    assert caught.value.facts["says"] == "no module named segedge"
    with pytest.raises(BackendError, match="small/7 is not ready") as caught:
        server.open("small/7")
    assert caught.value.facts["says"] == "it has no version 7"


def test_the_ensemble_is_not_the_network(server: Started) -> None:
    with pytest.raises(BackendError, match="is an ensemble: it takes frames") as caught:
        server.open("small_frames")
    assert caught.value.fix == server.address("small")


def test_a_server_without_configurations(server: Started, small: Path) -> None:
    """Other servers than Triton: the network runs, and the card comes from a file."""
    server.networks.has_config = False
    with pytest.raises(CardError, match="the server tells no card of small") as caught:
        segedge.load(server.address())
    assert "--card" in str(caught.value)
    card = ModelCard(("night", "day"), ((0, 0, 0), (9, 9, 9)), 48, 64, stride=8)
    with segedge.load(server.address(), card=card) as segmenter:
        assert set(segmenter(frame_of(90, 160)).class_pixels) == {"night", "day"}
    with pytest.raises(BackendError, match="has no model 'other'") as caught2:
        server.open("other")
    assert "it does not tell" in caught2.value.facts["models"]


def test_a_card_of_other_classes(server: Started) -> None:
    """Given by hand, and not of this network."""
    card = ModelCard(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), 48, 64, stride=8)
    with pytest.raises(CardError, match="the card does not fit the network's output"):
        segedge.load(server.address(), card=card)


@pytest.mark.parametrize(
    "change",
    [
        lambda made: {"logits": made["logits"][:, :1]},
        lambda made: {"logits": made["logits"][0]},
        lambda made: {"logits": made["logits"].astype(np.float16)},
    ],
    ids=["channels", "axes", "type"],
)
@pytest.mark.parametrize("memory", ["shm", "wire"])
def test_another_shape_than_promised(
    server: Started, memory: Any, change: Callable[[Any], Any]
) -> None:
    backend = server.open(memory=memory)
    backend.run([IMAGE])
    server.networks.change = change
    with pytest.raises(BackendError, match="answers another shape than it promised") as caught:
        backend.run([IMAGE])
    assert caught.value.facts["expected"] == "logits 1x2x6x8 float32"


def test_what_the_server_refuses(server: Started) -> None:
    backend = server.open()
    with pytest.raises(BackendError, match="failed while running the network") as caught:
        backend.run([IMAGE[:, :, :40]])
    assert caught.value.facts["expected"] == "x 1x3x48x64 float32"
    assert "onnx runtime error" in caught.value.facts["says"]
    backend.run([IMAGE])


def test_no_answer_in_time(server: Started) -> None:
    """Said at once, and not sent again."""
    backend = server.open(timeout_seconds=1.5)
    asked, release = server.networks.requests, threading.Event()
    server.networks.before = lambda feeds: release.wait(30) or None
    try:
        with pytest.raises(BackendError, match=r"small did not answer within 1\.5 s") as caught:
            backend.run([IMAGE])
    finally:
        release.set()
    assert "?timeout=4.5" in str(caught.value.fix)
    assert server.networks.requests == asked + 1


class Waker(logging.Handler):
    """Starts a server again when the client says that it is lost."""

    def __init__(self, start: Callable[[], None]) -> None:
        super().__init__()
        self._start = start

    def emit(self, record: logging.LogRecord) -> None:
        if "is lost" in record.getMessage():
            self._start()


@pytest.mark.parametrize("memory", ["shm", "wire"])
def test_a_server_that_comes_back(
    server: Started, local: Backend, memory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    backend = server.open(memory=memory, patience_seconds=60)
    backend.run([IMAGE])
    backend.run([IMAGE])
    server.stop()
    waker = Waker(server.start)
    logging.getLogger("segedge").addHandler(waker)
    try:
        with caplog.at_level("INFO", "segedge"):
            (made,) = backend.run([IMAGE])
    finally:
        logging.getLogger("segedge").removeHandler(waker)
    np.testing.assert_array_equal(made, local.run([IMAGE])[0])
    assert "is lost" in caplog.text
    assert "is back" in caplog.text
    backend.run([IMAGE])


def test_a_server_that_stays_away(server: Started) -> None:
    backend = server.open(patience_seconds=0.3)
    backend.run([IMAGE])
    server.stop()
    with pytest.raises(BackendError, match="was lost and did not come back") as caught:
        backend.run([IMAGE])
    assert caught.value.facts["waited"] == "0.3 s"
    assert "?patience=60" in str(caught.value.fix)


def test_a_server_that_is_too_busy_for_a_moment(server: Started, local: Backend) -> None:
    """A full queue is no loss: the frame is sent again."""
    backend = server.open(patience_seconds=60)
    refusals = iter([True, True])

    def full(feeds: Any) -> None:
        if next(refusals, False):
            raise RefusedError("Exceeds maximum queue size", "UNAVAILABLE")

    server.networks.before = full
    np.testing.assert_array_equal(backend.run([IMAGE])[0], local.run([IMAGE])[0])


def test_closing_ends_the_search(server: Started) -> None:
    backend = server.open(patience_seconds=600)
    server.stop()
    threading.Timer(0.1, backend._ended.set).start()
    with pytest.raises(BackendError, match="was lost"):
        backend.run([IMAGE])


def rewritten(path: Path, name: str, *, classes: tuple[str, ...], channels: int = 2) -> Path:
    """A model with other classes, or other channels, to take another's place."""
    model = write_model(path / f"{name}.onnx", has_card=False)
    proto = onnx.load(model)
    if channels != 2:
        weights = proto.graph.initializer[0]
        weights.CopyFrom(
            onnx.numpy_helper.from_array(np.ones((channels, 3, 1, 1), np.float32), weights.name)
        )
        proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = channels
    card = ModelCard(classes, ((0, 0, 0),) * len(classes), 48, 64, stride=8)
    for key, value in card.to_metadata().items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(proto, model)
    return model


def test_another_model_comes_back(server: Started, tmp_path: Path) -> None:
    backend = server.open(patience_seconds=60, memory="shm")
    backend.run([IMAGE])
    backend.run([IMAGE])
    server.stop()
    other = rewritten(tmp_path, "small", classes=("night", "day"))
    write_repository(other, tmp_path / "repo", options=TritonOptions(force=True))
    server.start()
    with pytest.raises(CardError, match="has another card now") as caught:
        backend.run([IMAGE])
    assert caught.value.facts["differ"] == "classes, palette_rgb"


def test_another_network_comes_back(server: Started, tmp_path: Path) -> None:
    backend = server.open(patience_seconds=60)
    server.stop()
    other = rewritten(tmp_path, "small", classes=("a", "b", "c"), channels=3)
    write_repository(other, tmp_path / "repo", options=TritonOptions(force=True))
    server.start()
    with pytest.raises(BackendError) as caught:
        backend.run([IMAGE])
    assert "1x3x6x8" in str(caught.value) or "logits" in str(caught.value)


def test_a_new_version_of_the_same_classes(server: Started, small: Path, tmp_path: Path) -> None:
    backend = server.open()
    backend.run([IMAGE])
    write_repository(small, tmp_path / "repo", options=TritonOptions(version=2))
    backend.run([IMAGE])
    other = rewritten(tmp_path, "small", classes=("night", "day"))
    write_repository(other, tmp_path / "repo", options=TritonOptions(version=3, force=True))
    with pytest.raises(CardError, match="has another card now"):
        backend.run([IMAGE])


def test_other_threads(server: Started, local: Backend) -> None:
    """A pipeline opens a segmenter in one thread and runs it in another."""
    backend = server.open(memory="wire")
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.extend(backend.run([IMAGE])))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(made[0], local.run([IMAGE])[0])


def test_the_command(networks: Networks, tmp_path: Path, small: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), frame_of(90, 160))
    there = tmp_path / "there.png"
    with grpc_server(networks) as port:
        address = f"grpc://127.0.0.1:{port}/small"
        done = run_verb("run", address, tmp_path / "a.png", "-o", there, "--masks", "labels")
    assert f"kserve-test 1.0 at 127.0.0.1:{port} (gRPC, shared memory, small" in done.stdout
    with segedge.load(small, backend="onnxruntime") as here:
        expected = here(cv2.imread(str(tmp_path / "a.png"))).labels
    np.testing.assert_array_equal(cv2.imread(str(there), cv2.IMREAD_UNCHANGED), expected)


def test_inspect_asks_the_server(networks: Networks) -> None:
    with grpc_server(networks) as port:
        address = f"grpc://127.0.0.1:{port}/small"
        done = run_verb("inspect", address)
    assert "kserve-test 1.0" in done.stdout
    assert "x 1x3x48x64 float32" in done.stdout
    assert "dark, bright" in done.stdout
    assert f"segedge run {address}" in done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """Fast-SCNN with its card, and images of CamVid."""
    shared = Path(__file__).parents[3] / "shared"
    model = shared / "models" / "fastscnn_camvid.onnx"
    images = sorted((shared / "data" / "camvid" / "val" / "images").glob("*"))[:2]
    if not model.is_file() or not images:
        pytest.skip("no ../shared/models and ../shared/data")
    pytest.importorskip("torch", reason="torch is not installed: segedge[export]")
    from segedge.convert.export import export
    from segedge.convert.options import ExportOptions

    carded = tmp_path_factory.mktemp("trained") / "fastscnn.onnx"
    export(model, carded, options=ExportOptions(classes="camvid"))
    return carded, images


def test_the_trained_network(
    protocol: str, tmp_path: Path, trained: tuple[Path, list[Path]]
) -> None:
    """The same masks as on the backend of this machine, byte for byte."""
    import cv2

    carded, images = trained
    write_repository(carded, tmp_path / "repo", options=TritonOptions(frames=False))
    with ExitStack() as stack:
        server = Started(protocol, Networks(tmp_path / "repo"), stack)
        remote = stack.enter_context(segedge.load(server.address("fastscnn")))
        here = stack.enter_context(segedge.load(carded, backend="onnxruntime", threads=1))
        for path in images:
            image = cv2.imread(str(path))
            assert image is not None
            one, other = remote(image), here(image)
            assert len(np.unique(other.labels)) > 4
            np.testing.assert_array_equal(one.labels, other.labels)
            np.testing.assert_array_equal(one.overlay(), other.overlay())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grpc://box/street", "grpc://box:8001/street"),
        ("http:/box/street", "http://box:8000/street"),
        ("https://box/street/3", "https://box:443/street/3"),
        ("grpcs://[::1]:9/a%20b", "grpcs://[::1]:9/a b"),
        ("http://box/v2/models/street/versions/2", "http://box:8000/street/2"),
        ("http://box/team/v2/models/street", "http://box:8000/team/street"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    assert str(parse_address(text)[0]) == expected
    assert str(parse_address(Path(text))[0]) == expected


def test_options_of_addresses() -> None:
    _, options = parse_address("grpc://box/street?timeout=30&patience=0")
    assert (options.timeout_seconds, options.patience_seconds) == (30, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grpc://box", "names no model on a server"),
        ("grpc://box/a/b/c", "names no model on a server"),
        ("grpc:///street", "names no model on a server|no address"),
        ("grpc://box/street/new", "'new' is no version of a model"),
        ("grpc://box:abc/street", "has no port"),
        ("grpc://box/street?tmeout=3", "no option of an address 'tmeout'; did you mean 'timeout'"),
        ("grpc://box/street?timeout=soon", "timeout=soon is no number of seconds"),
        ("grpc://box/street?timeout=0", "timeout must be above 0 seconds"),
        ("grpc://box/street?patience=-1", "patience must be 0 seconds or more"),
        ("ftp://box/street", "is no address of a served model"),
    ],
)
def test_addresses_that_are_none(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_address(text)


def test_backends_and_addresses(small: Path) -> None:
    with pytest.raises(UsageError, match="backend openvino runs files here"):
        segedge.load("grpc://box/street", backend="openvino")
    with pytest.raises(UsageError, match="no backend 'remot'; did you mean 'remote'"):
        segedge.load("grpc://box/street", backend="remot")
    with pytest.raises(UsageError, match="no way to a server 'smh'; did you mean 'shm'"):
        segedge.load("grpc://box/street", backend="remote:smh")
    with pytest.raises(UsageError, match="needs a server's address"):
        segedge.load(small, backend="remote")


def test_without_tritonclient(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(
        BackendError, match="tritonclient is needed to talk to grpc://box"
    ) as caught:
        segedge.load("grpc://box/street")
    assert caught.value.fix == "pip install 'segedge[remote]'"


def test_a_segmenter_of_ones_own(server: Started) -> None:
    backend = server.open()
    assert backend.card is not None
    with Segmenter(backend.card, backend) as segmenter:
        assert segmenter(frame_of(48, 64)).labels.shape == (48, 64)
