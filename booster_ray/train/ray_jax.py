"""What Ray Train does in a worker before a JAX run begins."""

from __future__ import annotations

from typing import Any

from ray.train.v2.jax.config import JaxConfig

from booster_ray.runtime.signals import forward_signals


class ListeningJax(JaxConfig):
    """A ``JaxConfig`` whose workers let their run hear a signal."""

    @property
    def backend_cls(self) -> Any:
        """The backend that Ray Train starts in each worker."""
        return _JaxBackend


class _JaxBackend(JaxConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(forward_signals)
