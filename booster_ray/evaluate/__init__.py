"""Playing and judging a policy: what acts (checkpoint, package, ONNX), episodes, scores while
training and after, statistics, export with its checks, gates 1 to 3, video, the viewer.
"""
