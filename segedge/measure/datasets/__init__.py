"""Labelled images: layouts of folders, label files, maps between label sets."""
