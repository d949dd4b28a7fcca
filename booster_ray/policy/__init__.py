"""An actor that leaves: torch, ONNX, the submission package with its preprocessor and player, a
registry's model; experts that show actions.
"""
