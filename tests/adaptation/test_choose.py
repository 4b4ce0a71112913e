"""Which share is taken, and when none is."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")

from segedge.adaptation.choose import best_of
from segedge.adaptation.options import Trial


def trial(share: float, information: float, confidence: float, miou: float | None = None) -> Trial:
    return Trial(share, information, confidence, (0.5, 0.5), miou)


def test_the_most_information_is_taken() -> None:
    trials = (trial(0, 1.0, 0.8), trial(0.5, 1.2, 0.9), trial(1, 1.3, 0.85))
    assert best_of(trials, asked=None) is trials[2]


def test_a_little_more_is_noise() -> None:
    trials = (trial(0, 1.0, 0.8), trial(1, 1.005, 0.9))
    assert best_of(trials, asked=None) is trials[0]
    assert best_of(trials, asked=1.0) is trials[1]


def test_a_network_must_become_surer() -> None:
    """Recordings of other streets gain as much information as some looks, and are no surer."""
    trials = (trial(0, 1.0, 0.9), trial(0.5, 1.1, 0.906), trial(1, 1.5, 0.904))
    assert best_of(trials, asked=None) is trials[1]
    assert best_of(trials[::2], asked=None) is trials[0]
    assert best_of(trials[::2], asked=1.0) is trials[2]


def test_being_sure_of_one_class_is_no_merit() -> None:
    trials = (trial(0, 0.01, 1.0), trial(1, 1.1, 0.9))
    assert best_of(trials, asked=None) is trials[1]


def test_labels_know_better() -> None:
    trials = (trial(0, 1.0, 0.9, 0.5), trial(0.5, 0.9, 0.8, 0.6), trial(1, 1.5, 0.95, 0.4))
    assert best_of(trials, asked=None) is trials[1]
