"""The graphs of a slot: work is launched plainly, captured, replayed once, compared, and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from segedge.cuda.runtime.array import DeviceArray
from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.graph import CaptureRefusedError, alike, capture

_GRAPHS_KEPT = 4
"""For as many requests: one for each combination of outputs that is asked for."""
Work = Callable[[Any], None]
"""Enqueues on a stream."""


class Graphs:
    """The last requests' graphs, until one is refused: from then on there are no new ones."""

    def __init__(
        self, device: Device, stream: Any, is_capturable: Callable[[int], bool], *, wanted: bool
    ) -> None:
        """Start empty.

        Args:
            device: The GPU.
            stream: Where work is launched and graphs are replayed.
            is_capturable: Of a stream's handle, once work has run: whether the network allows it.
            wanted: Else work is launched plainly, always.
        """
        self.refusal = ""
        """Why work is launched plainly although graphs were wanted."""
        self._device, self._stream = device, stream
        self._is_capturable = is_capturable
        self._wanted = wanted
        self._kept: OrderedDict[Hashable, tuple[Any, ...]] = OrderedDict()

    def of(self, request: Hashable) -> tuple[Any, ...] | None:
        """What was kept for a request."""
        if request in self._kept:
            self._kept.move_to_end(request)
        return self._kept.get(request)

    def keep(self, request: Hashable, graphs: Sequence[Any]) -> None:
        """Keep a request's graphs if all are there, in place of those not used for longest."""
        made = tuple(graph for graph in graphs if graph is not None)
        if len(made) < len(graphs):
            _close(made)
            return
        self._kept[request] = made
        if len(self._kept) > _GRAPHS_KEPT:
            _close(self._kept.popitem(last=False)[1])

    def tried(self, work: Work, written: Mapping[str, DeviceArray]) -> Any:
        """Do some work plainly and return a graph of it, or None where that is not to be had.

        Args:
            work: What to do, the same on any stream.
            written: All that it writes, by name: a replay must write the same.
        """
        work(self._stream)
        if not self._wanted:
            return None
        try:
            return self._captured(work, written)
        except CaptureRefusedError as error:
            self._wanted = False
            self.refusal = str(error)
            work(self._stream)
            return None

    def _captured(self, work: Work, written: Mapping[str, DeviceArray]) -> Any:
        device, stream = self._device, self._stream
        expected = {name: device.download(array, stream) for name, array in written.items()}
        # Not on the slot's stream: whoever looks at another frame of the lane in another thread
        # works on it, and would be caught in the graph.
        aside = device.stream()
        if not self._is_capturable(int(aside.handle)):
            raise CaptureRefusedError("the network's library does not allow it")
        graph = capture(aside, lambda: work(aside))
        for array in written.values():  # so that a replay that writes nothing is noticed
            device.fill(array.pointer, 0xFF, array.nbytes, stream)
        graph.launch(stream)
        for name, array in written.items():
            if not alike(device.download(array, stream), expected[name]):
                graph.close()
                raise CaptureRefusedError(f"replayed, it gives other {name} than launched plainly")
        return graph

    def close(self) -> None:
        """Free the graphs; none may be running."""
        for graphs in self._kept.values():
            _close(graphs)
        self._kept.clear()


def _close(graphs: Iterable[Any]) -> None:
    for graph in graphs:
        graph.close()
