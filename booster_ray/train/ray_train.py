"""Ray for runs: the cluster they use, and the same run under a Ray Train worker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from booster_ray.config import Config
from booster_ray.train.runtime import process_environment


def available_cpus() -> int:
    """Cores that this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def connect(config: Config, address: str | None) -> None:
    """Join the cluster at ``address``, or start one on this machine that ends with this process.

    Workers get the runtime's environment before they import anything.
    """
    import ray

    own: dict[str, Any] = {"include_dashboard": False, "num_cpus": available_cpus()}
    ray.init(
        address=address or "local",
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": process_environment(config, config.trainer.cpus)},
        **({} if address else own),
    )


def fit_in_worker(
    config: Config, directory: Path, stop_file: Path, callbacks: Sequence[Any] = ()
) -> None:
    """Run under a ``JaxTrainer`` worker; ``callbacks`` are Ray Train's and hear every report.

    The checkpoint is the run directory's own, so a run may change its binding on resume.

    Raises:
        ray.train.TrainingFailedError: the worker failed.
    """
    from ray import train
    from ray.train.v2.jax import JaxTrainer
    from ray.train.v2.jax.config import JaxConfig

    trainer = JaxTrainer(
        _work,
        train_loop_config={
            "config": config.to_dict(),
            "directory": str(directory),
            "stop_file": str(stop_file),
        },
        # JaxTrainer would renumber CUDA_VISIBLE_DEVICES from 0, so that trials met on one GPU;
        # left off here, each worker keeps the GPU that Ray assigned to it.
        jax_config=JaxConfig(use_gpu=False, use_tpu=False),
        scaling_config=train.ScalingConfig(
            num_workers=config.trainer.workers,
            use_gpu=config.trainer.use_gpu,
            resources_per_worker={"CPU": config.trainer.cpus, "GPU": int(config.trainer.use_gpu)},
        ),
        run_config=train.RunConfig(
            name="ray_train",
            storage_path=str(directory),
            callbacks=list(callbacks),
        ),
    )
    trainer.fit()


def _work(loop_config: dict[str, Any]) -> None:
    """What the worker runs."""
    from ray import train

    from booster_ray.train.run import train_reporting

    config = Config.model_validate(loop_config["config"])
    directory, stop_file = Path(loop_config["directory"]), Path(loop_config["stop_file"])
    train_reporting(config, directory, stop_file, train.report)
