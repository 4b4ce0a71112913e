"""The 32 colours of CamVid's own label pictures in the 11 classes that everybody uses.

Colours: Brostow, Fauqueur, Cipolla: Semantic object classes in video (Pattern Recognition Letters
2009), its ``label_colors.txt``. The grouping is that of the SegNet paper (Badrinarayanan, Kendall,
Cipolla 2017): small things join the class that they are nearest to, void does not count.
"""

from __future__ import annotations

from segedge.card.labels import Rgb

CAMVID_COLORS: dict[Rgb, str] = {
    (128, 128, 128): "sky",
    (0, 128, 64): "building",  # bridge
    (128, 0, 0): "building",
    (64, 192, 0): "building",  # wall
    (64, 0, 64): "building",  # tunnel
    (192, 0, 128): "building",  # archway
    (192, 192, 128): "pole",
    (0, 0, 64): "pole",  # traffic cone
    (128, 64, 128): "road",
    (128, 0, 192): "road",  # lane marking
    (192, 0, 64): "road",  # lane marking, not for driving
    (0, 0, 192): "pavement",
    (64, 192, 128): "pavement",  # parking block
    (128, 128, 192): "pavement",  # road shoulder
    (60, 40, 222): "pavement",  # as the SegNet form paints it
    (128, 128, 0): "tree",
    (192, 192, 0): "tree",  # other vegetation
    (192, 128, 128): "sign",
    (128, 128, 64): "sign",  # other text
    (0, 64, 64): "sign",  # traffic light
    (64, 64, 128): "fence",
    (64, 0, 128): "car",
    (64, 128, 192): "car",  # pick-up, SUV
    (192, 128, 192): "car",  # truck, bus
    (192, 64, 128): "car",  # train
    (128, 64, 64): "car",  # other moving things
    (64, 64, 0): "pedestrian",
    (192, 128, 64): "pedestrian",  # child
    (64, 0, 192): "pedestrian",  # pram, cart, luggage
    (64, 128, 64): "pedestrian",  # animal
    (0, 128, 192): "bicyclist",
    (192, 0, 192): "bicyclist",  # motorcycle, scooter
    (0, 0, 0): "",
}
