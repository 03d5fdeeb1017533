"""What runs on the far side: the zygote and the sessions that are forked from it.

This package is imported by the zygote under the bare name ``jail``, before it loses sight of the file system. It
imports the standard library, numpy, Pillow and OpenCV, and nothing else of ours: the rest of the package can neither
be read nor imported by model-written code.
"""
