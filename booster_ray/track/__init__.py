"""Sinks (W&B, MLflow, TensorBoard), their uploader, the GPU monitor, the model registry."""
