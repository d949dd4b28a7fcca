"""The same run under a Ray Train worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from booster_ray.config import Config


def fit_in_worker(config: Config, directory: Path, stop_file: Path) -> None:
    """Run under a ``JaxTrainer`` worker, from within a Tune trial, which gets every report.

    The checkpoint is the run directory's own, so a trial may change its binding on resume.

    Raises:
        ray.train.TrainingFailedError: the worker failed.
    """
    from ray import train
    from ray.train.v2.jax import JaxTrainer
    from ray.train.v2.jax.config import JaxConfig
    from ray.tune.integration.ray_train import TuneReportCallback

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
            callbacks=[TuneReportCallback()],
        ),
    )
    trainer.fit()


def _work(loop_config: dict[str, Any]) -> None:
    """What the worker runs."""
    from ray import train

    from booster_ray.tune.trial import train as train_trial

    config = Config.model_validate(loop_config["config"])
    directory, stop_file = Path(loop_config["directory"]), Path(loop_config["stop_file"])
    train_trial(config, directory, stop_file, train.report)
