"""Labelled images: layouts of folders, label files, maps between label sets.

Gives images and labels in the classes of a card; imports `card` and `video.sources`.
"""
