"""What is closed and called nevertheless, and what several threads call: refused, or right."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import segedge
from segedge.analyse.draw import DrawnSink
from segedge.card.geometry import Size
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import Sink, SourceInfo
from segedge.video.sinks.open import open_sink

WAIT_SECONDS = 20.0
INFO = SourceInfo("x", "video", (48, 64), 10.0, 3)


def card() -> segedge.ModelCard:
    return segedge.ModelCard(
        classes=tuple(f"level {n}" for n in range(8)),
        palette_rgb=tuple((n, n, n) for n in range(8)),
        input_height=48,
        input_width=64,
        stride=8,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def grey(level: int) -> NDArray[np.uint8]:
    """An image of one level; it becomes the class of that number."""
    return np.full((48, 64, 3), round(255 * level / 7), np.uint8)


class SlowBackend(segedge.FakeBackend):
    """Lets go of the interpreter before it reads its input, as every library does."""

    def run(self, inputs: Any, outputs: Any = None, *, stream: int = 0) -> Any:
        time.sleep(0.002)
        return super().run(inputs, outputs, stream=stream)


@pytest.fixture
def closed() -> segedge.Segmenter:
    segmenter = segedge.Segmenter(
        card(), segedge.FakeBackend(card()), options=segedge.FrameOptions(motion=segedge.Motion(4))
    )
    segmenter(grey(0))
    segmenter.close()
    segmenter.close()
    return segmenter


CALLS: dict[str, Callable[[segedge.Segmenter], object]] = {
    "call": lambda closed: closed(grey(1)),
    "look": lambda closed: closed.look(Frame(grey(1))),
    "stream": lambda closed: list(closed.stream([grey(1)])),
    "warm_up": lambda closed: closed.warm_up(Size(48, 64)),
    "moving": lambda closed: closed.moving(live=False),
    "Pipeline": lambda closed: segedge.Pipeline(segedge.MemorySource([grey(1)]), closed).run(),
    "segedge.stream": lambda closed: segedge.stream(closed, segedge.MemorySource([grey(1)])),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_closed_segmenter_says_so(closed: segedge.Segmenter, name: str) -> None:
    with pytest.raises(UsageError, match=r"the segmenter is closed(.|\n)*segedge.load"):
        CALLS[name](closed)


def test_a_closed_segmenter_is_told_of_before_the_first_frame(closed: segedge.Segmenter) -> None:
    """Also without motion: not when the camera's first frame has come."""
    plain = segedge.Segmenter(card(), segedge.FakeBackend(card()))
    plain.close()
    with pytest.raises(UsageError, match="the segmenter is closed"):
        list(segedge.stream(plain, segedge.MemorySource([grey(1)])))


def test_the_motion_of_a_video_that_has_ended_takes_no_more_frames() -> None:
    options = segedge.FrameOptions(motion=segedge.Motion(every=4))
    with segedge.Segmenter(card(), segedge.FakeBackend(card()), options=options) as segmenter:
        for live in (False, True):
            moving = segmenter.moving(live=live)
            assert moving is not None
            shown = list(moving.push(Frame(grey(1)), ()))
            assert len(shown + list(moving.end(()))) == 1
            for _ in range(2):
                moving.close()
                assert list(moving.end(())) == []
                with pytest.raises(UsageError, match="motion is closed"):
                    list(moving.push(Frame(grey(2)), ()))


@pytest.fixture
def result() -> Iterator[segedge.Result]:
    with segedge.Segmenter(card(), segedge.FakeBackend(card())) as segmenter:
        yield segmenter(Frame(grey(1), name="x", pts_seconds=0.0))


def sinks(folder: Path) -> dict[str, Callable[[], Sink]]:
    one = SourceInfo("x.png", "images", (48, 64), None, 1)
    found = {
        name: lambda name=name: open_sink(folder / name, info=INFO)
        for name in ("out.mp4", "facts.jsonl", "pictures/")
    }

    def harvest() -> Sink:
        from segedge.harvest.harvest import Harvest
        from segedge.harvest.options import HarvestOptions

        return Harvest(HarvestOptions(folder / "harvest"), card()).sink("x")

    def live() -> Sink:
        from segedge.live.channel import Channel, LiveSink

        channel = Channel("x", 0, on_change=lambda: None, on_message=lambda: None)
        channel.close()  # its thread alone; the sink is open
        return LiveSink(channel)

    def facts() -> Sink:
        from segedge.batch.plan import Shard
        from segedge.batch.table import FactsSink

        return FactsSink(Shard("1", "x", "images", ("x.png",), ("x",)), model_sha256="")

    def timed() -> Sink:
        from segedge.measure.bench.worker.flow import Stamps

        return Stamps()

    return {
        **found,
        "harvest": harvest,
        "live": live,
        "facts": facts,
        "timed": timed,
        "drawn": lambda: DrawnSink(segedge.MemorySink(), ()),
        "contact": lambda: open_sink(f"contact:{folder / 'sheet.png'}", info=INFO),
        "image": lambda: open_sink(folder / "one.png", info=one),
        "masks": lambda: open_sink(folder / "masks", info=INFO, masks="panoptic"),
        "callable": lambda: segedge.CallableSink(lambda frame, result: None),
        "memory": segedge.MemorySink,
    }  # type: ignore[dict-item]


@pytest.mark.parametrize("name", sinks(Path()))
@pytest.mark.parametrize("frames", [0, 1])
def test_a_closed_sink_takes_no_frame_and_leaves_its_file_alone(
    result: segedge.Result, tmp_path: Path, name: str, frames: int
) -> None:
    pytest.importorskip("av")
    sink = sinks(tmp_path)[name]()
    for _ in range(frames):
        sink.write(result.frame, result)
    sink.close()
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="is closed\n  fix  write before close"):
        sink.write(Frame(grey(2), 1, "x", 0.1), result)
    sink.close()
    sink.close(error=True)
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_every_sink_there_is_looks_whether_it_is_open() -> None:
    """By the one function for it, first of all; or hands on to a sink that does."""
    unchecked = []
    for path in Path(segedge.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef) or node.name in ("Sink", "WrappedSink"):
                continue
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "write":
                    names = [argument.arg for argument in method.args.args]
                    looks = [ast.unparse(step).startswith("check_takes(") for step in method.body]
                    hands_on = [ast.unparse(base) == "WrappedSink" for base in node.bases]
                    if names == ["self", "frame", "result"] and not any(looks + hands_on):
                        unchecked.append(node.name)
    assert not unchecked


def test_a_segmented_recording_that_is_closed(result: segedge.Result, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from segedge.video.sinks.segments import SegmentedSink

    sink = SegmentedSink(tmp_path / "out.mp4", 10.0, 1.0)
    sink.write(result.frame, result)
    sink.close()
    with pytest.raises(UsageError, match="is closed"):
        sink.write(Frame(grey(2), 1, "x", 0.1), result)
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out-000.mp4"]


def in_threads(work: Callable[[int], None], count: int = 4) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]


def test_threads_that_share_a_segmenter_get_the_frames_that_they_gave() -> None:
    with segedge.Segmenter(card(), SlowBackend(card()), threads=2) as segmenter:

        def work(number: int) -> None:
            for turn in range(12):
                level = (number + turn) % 8
                assert (segmenter(grey(level), outputs=("labels",)).labels == level).all()

        in_threads(work)


@pytest.mark.parametrize("motion", [None, segedge.Motion(every=3)])
def test_pipelines_that_share_a_segmenter(motion: segedge.Motion | None) -> None:
    options = segedge.FrameOptions(motion=motion)
    backend = SlowBackend(card())
    with segedge.Segmenter(card(), backend, options=options, threads=2) as segmenter:

        def work(number: int) -> None:
            sink = segedge.MemorySink()
            source = segedge.MemorySource([grey(number * 2)] * 12, fps=10)
            segedge.Pipeline(source, segmenter, [sink]).run()
            assert [entry.frame.index for entry in sink.written] == list(range(12))
            assert all((entry.result.labels == number * 2).all() for entry in sink.written)

        in_threads(work, 3)


def test_threads_that_share_a_stream_get_each_frame_once() -> None:
    """Frames come in bursts, so that all threads wait for one and then find several."""

    def in_bursts(index: int) -> None:
        if index % 3 == 0:
            time.sleep(0.005)

    with segedge.Segmenter(card(), SlowBackend(card())) as segmenter:
        images = [grey(n % 8) for n in range(120)]
        seen: list[int] = []
        source = segedge.MemorySource(images, before_frame=in_bursts)
        with segedge.stream(segmenter, source) as stream:

            def work(number: int) -> None:
                for frame, result in stream:
                    assert (result.labels == frame.index % 8).all()
                    seen.append(frame.index)

            in_threads(work)
            assert stream.progress.written == 120
        assert sorted(seen) == list(range(120))


def test_a_segmenter_that_is_closed_during_a_call_of_another_thread() -> None:
    """The call comes to its end, the next one is refused."""
    segmenter = segedge.Segmenter(card(), SlowBackend(card()))
    began = threading.Event()

    def work(number: int) -> None:
        if number:
            assert began.wait(WAIT_SECONDS)
            segmenter.close()
            return
        while True:
            assert (segmenter(grey(3)).labels == 3).all()
            began.set()

    with pytest.raises(UsageError, match="the segmenter is closed"):
        in_threads(work, 2)


@pytest.fixture
def segmenter() -> Iterator[segedge.Segmenter]:
    with segedge.Segmenter(card(), segedge.FakeBackend(card())) as made:
        yield made


MISTAKES: dict[str, tuple[Callable[[segedge.Segmenter], object], str]] = {
    "no model": (lambda _: segedge.load(None), "file or an address, found NoneType"),  # type: ignore[arg-type]
    "bytes": (lambda _: segedge.load(b"ONNX"), "file or an address, found bytes"),  # type: ignore[arg-type]
    "no source": (lambda s: segedge.stream(s, None), "no source of frames(.|\n)*NoneType"),  # type: ignore[arg-type]
    "arrays": (lambda s: segedge.stream(s, [grey(1)]), "(.|\n)*list(.|\n)*MemorySource"),  # type: ignore[arg-type]
    "open nothing": (lambda _: segedge.open_source(None), "found NoneType"),  # type: ignore[arg-type]
    "a path": (lambda s: segedge.Pipeline("a.mp4", s), "no source(.|\n)*str: 'a.mp4'"),  # type: ignore[arg-type]
    "one sink": (
        lambda s: segedge.Pipeline(segedge.MemorySource([]), s, segedge.MemorySink()),  # type: ignore[arg-type]
        "as a list(.|\n)*MemorySink",
    ),
    "a sink's path": (
        lambda s: segedge.Pipeline(segedge.MemorySource([]), s, ["out.mp4"]),  # type: ignore[list-item]
        "no sink(.|\n)*str: 'out.mp4'(.|\n)*open_sink",
    ),
    "a style's name": (lambda s: s(grey(1)).overlay("outline"), "no style 'outline'"),  # type: ignore[arg-type]
    "half a zone": (lambda s: s(grey(1)).zones("gate"), "gate"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_something_else_is_refused_in_words(segmenter: segedge.Segmenter, name: str) -> None:
    call, told = MISTAKES[name]
    with pytest.raises(UsageError, match=told):
        call(segmenter)


def test_one_name_is_no_row_of_letters(segmenter: segedge.Segmenter) -> None:
    style = segedge.OverlayStyle(classes="level 3")  # type: ignore[arg-type]
    assert style == segedge.OverlayStyle(classes=("level 3",))
    image = grey(3)
    image[:, :32] = 0
    result = segmenter(image, outputs="overlay")
    (region,) = result.regions(classes="level 3")
    assert region.class_name == "level 3"
    assert [r.labels.max() for r in segmenter.stream([grey(3)], outputs="labels")] == [3]
    source = segedge.MemorySource([grey(3)])
    assert [r.labels.max() for _, r in segedge.stream(segmenter, source, outputs="labels")] == [3]
    sink = segedge.CallableSink(lambda frame, result: None, needs="labels")  # type: ignore[arg-type]
    assert sink.needs == {"labels"}
    with pytest.raises(UsageError, match="no output 'label'; did you mean 'labels'"):
        segmenter(image, outputs="label")


def test_a_zone_as_it_is_typed(segmenter: segedge.Segmenter) -> None:
    assert segmenter(grey(3)).zones("gate=0,0 1,0 1,1 0,1") == {"gate": {"level 3": 1.0}}


def test_smoothed_videos_that_share_a_segmenter_have_pasts_of_their_own() -> None:
    """In turn: each is as it is alone, and the first one's number is 0, as ever."""
    rng = np.random.default_rng(0)
    still = rng.integers(0, 255, (48, 64, 3))
    videos = [
        [np.clip(still + more + rng.integers(-3, 4, still.shape), 0, 255).astype(np.uint8)
         for _ in range(6)]
        for more in (0, 2)
    ]  # fmt: skip

    def opened() -> segedge.Segmenter:
        options = segedge.FrameOptions(smoothing=segedge.Smoothing(flicker=True))
        return segedge.Segmenter(card(), segedge.FakeBackend(card()), options=options)

    def source(number: int) -> segedge.MemorySource:
        return segedge.MemorySource(videos[number], fps=10)

    wanted = []
    for number in range(2):
        with opened() as segmenter:
            shown = segedge.stream(segmenter, source(number))
            wanted.append([result.logits.copy() for _, result in shown])
    assert not np.allclose(wanted[0][0], wanted[0][-1], atol=1e-4)
    with opened() as segmenter:
        for _ in range(2):  # the numbers are free again
            both = zip(*(segedge.stream(segmenter, source(n)) for n in range(2)), strict=True)
            for turn, pair in enumerate(both):
                for number, (frame, result) in enumerate(pair):
                    assert frame.stream == number
                    assert np.array_equal(result.logits, wanted[number][turn])
        counted = [segmenter.flicker(number) for number in range(2)]
        assert all(one is not None for one in counted)
