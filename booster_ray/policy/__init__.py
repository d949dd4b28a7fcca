"""An actor that leaves: torch, ONNX, the submission package, a registry's model; experts."""
