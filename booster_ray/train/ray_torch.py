"""What Ray Train does in a worker before a torch run begins."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchConfig

from booster_ray.runtime.signals import forward_signals


class ListeningTorch(TorchConfig):
    """A ``TorchConfig`` whose workers let their run hear a signal."""

    @property
    def backend_cls(self) -> Any:
        """The backend that Ray Train starts in each worker."""
        return _TorchBackend


class _TorchBackend(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(forward_signals)
