"""One frame from uint8 BGR image to uint8 BGR overlay: scenes, and the ways to do it."""
