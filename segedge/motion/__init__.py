"""Where things were in another frame of the video: by optical flow, or by what the codec says.

Gives `MotionField`s; what is carried along them is known one floor up. Imports cards, frames and
machine only.
"""
