"""Train the street network on generated scenes: ``python export/street/train.py --minutes 35``.

Scenes are rendered once, by all cores, into a cache; then random crops are trained on, and whole
frames towards the end. Data and their order follow from ``--seed``; ``--minutes`` makes the number
of steps depend on the machine, ``--steps`` fixes it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from network import StreetNet, street_net
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from scenes import CLASSES, NATIVE_SIZE, Scene
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1
TRAIN_SEED, UNSEEN_SEED = 10_000, 900_000  # first scene of each set; they never meet
_FRAMES_A_SCENE = 4
_WHOLE_FRAMES_FROM = 0.7  # share of the training after which whole frames replace crops
_CROP = (256, 512)
_STDERR = Console(stderr=True)
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Frames:
    """Rendered scenes: images (N, H, W, 3) BGR and labels (N, H, W), uint8, memory-mapped."""

    images: Pixels
    labels: Pixels


def render_set(first_seed: int, count: int, folder: Path) -> Frames:
    """Render ``count`` frames of scenes from ``first_seed`` on, or map them if they are there."""
    height, width = NATIVE_SIZE
    images_file = folder / f"{first_seed}-{count}.bgr"
    labels_file = images_file.with_suffix(".lab")
    if not labels_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        images = np.memmap(images_file, np.uint8, "w+", shape=(count, height, width, 3))
        labels = np.memmap(folder / "part", np.uint8, "w+", shape=(count, height, width))
        seeds = range(first_seed, first_seed - -count // _FRAMES_A_SCENE)
        workers = multiprocessing.get_context("spawn")  # a fork would inherit locked threads
        with workers.Pool() as pool, Progress(console=_STDERR) as bar:
            task = bar.add_task("rendering scenes", total=count)
            index = 0
            for pictures in pool.imap(_render_scene, seeds):
                for image, label in pictures[: count - index]:
                    images[index], labels[index] = image, label
                    index += 1
                bar.update(task, completed=index)
        labels.flush()
        (folder / "part").rename(labels_file)
    return Frames(
        np.memmap(images_file, np.uint8, "r", shape=(count, height, width, 3)),
        np.memmap(labels_file, np.uint8, "r", shape=(count, height, width)),
    )


def _render_scene(seed: int) -> list[tuple[Pixels, Pixels]]:
    """Render some moments of one scene."""
    cv2.setNumThreads(1)
    scene = Scene(seed)
    moments = np.random.default_rng(seed + 1).uniform(0, 60, _FRAMES_A_SCENE)
    return [scene.render(float(moment)) for moment in moments]


def to_tensor(images: Pixels, device: torch.device) -> Tensor:
    """Preprocess images (N, H, W, 3) BGR uint8 to (N, 3, H, W) float32, normalised RGB."""
    rgb = torch.from_numpy(images[..., ::-1].copy()).to(device)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    batch = (rgb.permute(0, 3, 1, 2).float() / 255 - mean) / std
    return batch.contiguous(memory_format=torch.channels_last)


def augment(rng: np.random.Generator, image: Pixels, label: Pixels, size: tuple[int, int],
            zoom: float) -> tuple[Pixels, Pixels]:  # fmt: skip
    """Cut a random window, resize it to ``size`` (height, width), flip and recolour it.

    ``zoom`` bounds the magnification: the window shows ``size`` at a scale of 1/zoom..zoom.
    """
    height, width = label.shape
    scale = float(np.exp(rng.uniform(-1, 1) * np.log(zoom)))
    high = min(int(size[0] / scale), height)
    wide = min(int(size[1] / scale * rng.uniform(0.88, 1.12)), width)
    y, x = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    image, label = image[y : y + high, x : x + wide], label[y : y + high, x : x + wide]
    if rng.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    image, label = np.ascontiguousarray(image), np.ascontiguousarray(label)
    image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    ramp = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.normal(0, 0.12))
    table = np.clip(ramp * 255 * rng.uniform(0.85, 1.15) * rng.normal(1, 0.04, 3), 0, 255)
    return cv2.LUT(image, table[None].astype(np.uint8)), label


def class_weights(labels: Pixels) -> Tensor:
    """Weight rare classes up, gently: share ** -0.25, with a mean of 1 over pixels."""
    some = labels[::10, ::4, ::4].ravel()
    share = np.bincount(some, minlength=len(CLASSES)) / some.size
    weight = np.clip(share, 1e-4, 1) ** -0.25
    return torch.tensor(weight / (weight * share).sum(), dtype=torch.float32)


def learning_rate(done: float, peak: float = 2.5e-3) -> float:
    """Warm up over 4 %, then fall along a cosine; ``done`` is 0..1."""
    warm = min(done / 0.04, 1.0)
    return peak * warm * float(0.5 + 0.5 * np.cos(np.pi * min(done, 1.0))) + 1e-6


def batches(frames: Frames, rng: np.random.Generator, share: Iterator[float],
            processes: int) -> Iterator[tuple[float, Pixels, Pixels]]:  # fmt: skip
    """Yield (share done, images, labels) of one process's part, in an order that ``rng`` draws."""
    queue: list[int] = []
    for done in share:
        crops = done < _WHOLE_FRAMES_FROM
        size, zoom, count = (_CROP, 1.5, 8) if crops else (NATIVE_SIZE, 1.12, 4)
        count = max(count // processes, 1)
        while len(queue) < count:
            queue.extend(rng.permutation(len(frames.labels)).tolist())
        chosen, queue = queue[:count], queue[count:]
        pairs = [augment(rng, frames.images[i], frames.labels[i], size, zoom) for i in chosen]
        yield done, np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


def shares(minutes: float, steps: int | None) -> Iterator[float]:
    """Yield how much of the training is done, from 0 until it is all done."""
    start, step = time.monotonic(), 0
    while True:
        done = step / steps if steps else (time.monotonic() - start) / (60 * minutes)
        if done >= 1:
            return
        yield done
        step += 1


@lru_cache
def _bilinear(small: int, large: int) -> Tensor:
    """Matrix (large, small) that resizes one axis as ``F.interpolate`` does."""
    eye = torch.eye(small)[None]
    return F.interpolate(eye, size=large, mode="linear", align_corners=False)[0].T.contiguous()


def sampled_loss(scores: Tensor, target: Tensor, phase: tuple[int, int], weight: Tensor) -> Tensor:
    """Cross entropy at every second pixel of every second row, from ``phase`` (y, x) on.

    The full-size logits would cost a third of a step; those at the sampled pixels are the same.

    Args:
        scores: (N, num_classes, h, w), at stride 8.
        target: Labels (N, H, W), int64.
        phase: First row and column, 0 or 1 each.
        weight: Weight of each class, (num_classes,).
    """
    y, x = (slice(start, None, 2) for start in phase)
    rows = _bilinear(scores.shape[2], target.shape[1])[y].to(scores.device)
    columns = _bilinear(scores.shape[3], target.shape[2])[x].to(scores.device)
    logits = rows @ scores.float().contiguous() @ columns.T
    return F.cross_entropy(logits, target[:, y, x], weight)


def together(share: Iterator[float], rank: int, processes: int) -> Iterator[float]:
    """Let all processes follow the clock of the first one, so that all do the same steps."""
    if processes == 1:
        yield from share
        return
    now = torch.zeros(1)
    while True:
        now.fill_(next(share, 1.0) if rank == 0 else 0.0)
        dist.broadcast(now, 0)
        if float(now) >= 1:
            return
        yield float(now)


def average(tensors: list[Tensor], processes: int) -> None:
    """Replace tensors by their mean over all processes."""
    if processes > 1:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / processes).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def fit(rank: int, network: StreetNet, args: argparse.Namespace) -> None:
    """Train the network in place, as process ``rank`` of ``args.processes``; rank 0 saves it."""
    if args.processes > 1:
        torch.set_num_threads(1)
        meeting = (args.cache / "meeting").absolute().as_uri()
        dist.init_process_group("gloo", meeting, rank=rank, world_size=args.processes)
    device, frames = torch.device(args.device), render_set(TRAIN_SEED, args.frames, args.cache)
    network.to(device, memory_format=torch.channels_last).train()
    weight = class_weights(frames.labels).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    share = together(shares(args.minutes, args.steps), rank, args.processes)
    rng = np.random.default_rng(args.seed * 1000 + rank)
    steps, mean_loss = 0, 0.0
    with Progress(console=_STDERR, disable=rank > 0) as bar:
        task = bar.add_task("training", total=1.0)
        for done, images, labels in batches(frames, rng, share, args.processes):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(done)
            with torch.autocast(device.type, torch.bfloat16, enabled=args.bfloat16):
                scores = network.scores(to_tensor(images, device))
            phase = (int(rng.integers(2)), int(rng.integers(2)))
            loss = sampled_loss(scores, torch.from_numpy(labels).to(device).long(), phase, weight)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            average([p.grad for p in network.parameters() if p.grad is not None], args.processes)
            optimiser.step()
            steps += 1
            mean_loss += (float(loss.detach()) - mean_loss) * max(0.02, 1 / steps)
            bar.update(task, completed=done, description=f"step {steps} loss {mean_loss:.4f}")
            if steps % 50 == 0 and rank == 0 and not _STDERR.is_terminal:
                _STDERR.print(f"{done:.1%} step {steps} loss {mean_loss:.4f}")
    with torch.no_grad():
        average([b for b in network.buffers() if b.is_floating_point()], args.processes)
    if rank == 0:
        save(network, args.out, steps, 0.0)


@torch.no_grad()
def evaluate(network: nn.Module, frames: Frames, device: torch.device) -> NDArray[np.float64]:
    """IoU of each class over all frames, (num_classes,)."""
    network.to(device).eval()
    count = len(CLASSES)
    confusion = np.zeros((count, count), np.int64)
    for image, label in zip(frames.images, frames.labels, strict=True):
        guess = network(to_tensor(image[None], device)).argmax(1)[0].cpu().numpy()
        pairs = label.astype(np.int64) * count + guess
        confusion += np.bincount(pairs.ravel(), minlength=count * count).reshape(count, count)
    hit = np.diag(confusion)
    return hit / np.maximum(confusion.sum(0) + confusion.sum(1) - hit, 1)


def save(network: nn.Module, path: Path, epoch: int, miou: float) -> None:
    """Write a weights-only checkpoint in half precision (2 bytes a parameter)."""
    state = {
        name: tensor.cpu().half().contiguous() if tensor.is_floating_point() else tensor.cpu()
        for name, tensor in network.state_dict().items()
    }
    torch.save({"state_dict": state, "epoch": epoch, "miou": miou, "classes": list(CLASSES)}, path)


def main() -> None:
    """Render, train, measure on scenes never trained on, and save."""
    parser = argparse.ArgumentParser(description="Train the street network.")
    parser.add_argument("--minutes", type=float, default=24.0, help="time for training alone")
    parser.add_argument("--steps", type=int, help="train this many steps, whatever time that takes")
    parser.add_argument("--frames", type=int, default=2000, help="frames to render and train on")
    parser.add_argument("--unseen", type=int, default=200, help="frames to measure on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="they share each batch")
    parser.add_argument("--resume", type=Path, help="checkpoint to start from")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "street.pth")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        default=torch.cuda.is_available(),
        help="half as many bits in the network; faster where the processor has them",
    )
    cache = Path(tempfile.gettempdir()) / "segedge-street"
    parser.add_argument("--cache", type=Path, default=cache, help="folder of rendered frames")
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(args.seed)
    render_set(TRAIN_SEED, args.frames, args.cache)
    unseen = render_set(UNSEEN_SEED, args.unseen, args.cache)
    network = street_net(len(CLASSES))
    if args.resume:
        network.load_state_dict(torch.load(args.resume, weights_only=True)["state_dict"])
    if args.processes > 1:
        (args.cache / "meeting").unlink(missing_ok=True)
        torch.multiprocessing.spawn(fit, (network, args), args.processes)
    else:
        fit(0, network, args)
    saved = torch.load(args.out, weights_only=True)
    steps = saved["epoch"]
    network.load_state_dict(saved["state_dict"])  # measure what was saved, not what was trained
    iou = evaluate(network, unseen, torch.device(args.device))
    save(network, args.out, steps, float(iou.mean()))
    for name, value in zip(CLASSES, iou, strict=True):
        print(f"{name:14s} {value:.4f}")
    print(f"mIoU           {iou.mean():.4f}  over {args.unseen} unseen frames")
    print(f"wrote          {args.out}, {steps} steps")


if __name__ == "__main__":
    main()
