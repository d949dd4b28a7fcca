"""Our SAC beside Brax's and SBX's: updates per second, and the whole loop on T1 soccer.

Everything runs in this one process, interleaved, on the cores it is given; medians are printed,
and the last line is one JSON object. Networks, batch and updates per step are equal: an actor of
256-128, twin scalar critics of 256-256, batch 512, ReLU without LayerNorm (what the peers have).

    pip install -e .[bench]        # SBX; without it its ratio is null
    python benchmarks/sac.py [--seconds 2] [--rounds 5] [--steps 40000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

CORES = len(os.sched_getaffinity(0))
# What a run of ours sets for itself, here for all: JAX reads it when it loads.
os.environ.setdefault("NPROC", str(CORES))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import optax

from booster_ray.config import Config
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.learner import Sac
from booster_ray.rl.sac.losses import Batch
from booster_ray.soccer import game

OBSERVATION, ACTION = game.OBSERVATION_SIZE, game.ACTION_SIZE
UPDATES, BATCH, WORLDS = 2, 512, 64
ACTOR, CRITIC = (256, 128), (256, 256)
PEERS_STYLE: dict[str, Any] = {"activation": "relu", "layer_norm": False}


def rate(step: Callable[[], int], seconds: float) -> float:
    """What ``step`` returns, per second."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        done += step()
    return done / (time.perf_counter() - began)


def config(**sac: Any) -> Config:
    """Ours, with the sizes of this comparison."""
    settings = {"actor_hidden": ACTOR, "critic_hidden": CRITIC, "batch_size": BATCH}
    settings |= {"updates_per_step": UPDATES, "learning_starts": 1024, **sac}
    return Config.model_validate({"sac": settings, "world": {"num_envs": WORLDS, "threads": CORES}})


def transitions(*shape: int) -> dict[str, np.ndarray]:
    """Random ones, float32, every array (*shape, ...)."""
    rng = np.random.default_rng(0)

    def normal(*size: int) -> np.ndarray:
        return rng.normal(size=(*shape, *size)).astype(np.float32)

    return {
        "observation": normal(OBSERVATION),
        "action": np.tanh(normal(ACTION)),
        "reward": normal(),
        "next_observation": normal(OBSERVATION),
    }


def ours(sampling: bool) -> Callable[[], int]:
    """Our update, on given batches or with the sampling of them."""
    sac = Sac(config(**PEERS_STYLE).sac, OBSERVATION, ACTION)
    learner = sac.init(0)
    given = Batch(**transitions(UPDATES, BATCH), terminated=np.zeros((UPDATES, BATCH), np.float32))
    replay = Replay(100_000, np.arange(WORLDS) % 3, OBSERVATION, ACTION)
    rows = Batch(**transitions(WORLDS), terminated=np.zeros(WORLDS, np.float32))
    for _ in range(100_000 // WORLDS):
        replay.add(rows, np.zeros(WORLDS, bool))
    rng = np.random.default_rng(0)

    def step() -> int:
        nonlocal learner
        batches = replay.sample((UPDATES, BATCH), rng) if sampling else given
        learner, _ = sac.update(learner, batches)
        jax.block_until_ready(learner.updates)
        return UPDATES

    step()
    return step


def brax() -> Callable[[], int]:
    """Brax's losses and optimizers in a scan of ``UPDATES``, as its ``sac.train`` has them."""
    from brax.training import gradients, networks, types
    from brax.training.acme import running_statistics, specs
    from brax.training.agents.sac import losses
    from brax.training.agents.sac import networks as sac_networks

    normalize = running_statistics.normalize
    nets = sac_networks.make_sac_networks(
        OBSERVATION, ACTION, normalize, hidden_layer_sizes=CRITIC, activation=jax.nn.relu
    )
    parameters = nets.parametric_action_distribution.param_size
    actor = networks.make_policy_network(
        parameters, OBSERVATION, normalize, hidden_layer_sizes=ACTOR, activation=jax.nn.relu
    )
    nets = nets.replace(policy_network=actor)
    parts = losses.make_losses(
        sac_network=nets, reward_scaling=1.0, discounting=0.97, action_size=ACTION
    )
    optimizers = [optax.adam(3e-4) for _ in parts]
    alpha_update, critic_update, actor_update = (
        gradients.gradient_update_fn(loss, optimizer, pmap_axis_name=None)
        for loss, optimizer in zip(parts, optimizers, strict=True)
    )
    key = jax.random.PRNGKey(0)
    params = [jnp.zeros(()), nets.q_network.init(key), nets.policy_network.init(key)]
    state = (*params, params[1], *(o.init(p) for o, p in zip(optimizers, params, strict=True)))
    norm = running_statistics.init_state(specs.Array((OBSERVATION,), jnp.float32))

    def once(carry: Any, batch: Any) -> Any:
        (log_alpha, critic, policy, target, alpha_opt, critic_opt, actor_opt), key = carry
        key, *keys = jax.random.split(key, 4)
        _, new_alpha, alpha_opt = alpha_update(
            log_alpha, policy, norm, batch, keys[0], optimizer_state=alpha_opt
        )
        alpha = jnp.exp(log_alpha)
        _, critic_new, critic_opt = critic_update(
            critic, policy, norm, target, alpha, batch, keys[1], optimizer_state=critic_opt
        )
        _, policy, actor_opt = actor_update(
            policy, norm, critic, alpha, batch, keys[2], optimizer_state=actor_opt
        )
        target = jax.tree.map(lambda old, new: 0.95 * old + 0.05 * new, target, critic_new)
        new = new_alpha, critic_new, policy, target, alpha_opt, critic_opt, actor_opt
        return (new, key), None

    @jax.jit
    def update(state: Any, key: Any, batches: Any) -> Any:
        return jax.lax.scan(once, (state, key), batches)[0]

    rows = transitions(UPDATES, BATCH)
    batches = types.Transition(
        **{name: rows[name] for name in ("observation", "action", "reward", "next_observation")},
        discount=np.ones((UPDATES, BATCH), np.float32),
        extras={
            "state_extras": {"truncation": np.zeros((UPDATES, BATCH), np.float32)},
            "policy_extras": {},
        },
    )

    def step() -> int:
        nonlocal state, key
        state, key = update(state, key, batches)
        jax.block_until_ready(state)
        return UPDATES

    step()
    return step


def sbx() -> Callable[[], int] | None:
    """SBX's ``train``, sampling included; None where it is not installed."""
    try:
        import gymnasium
        from sbx import SAC
        from stable_baselines3.common.logger import Logger
    except ImportError:
        return None

    class Still(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-10, 10, (OBSERVATION,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (ACTION,), np.float32)

    layers = {"net_arch": {"pi": list(ACTOR), "qf": list(CRITIC)}}
    model = SAC("MlpPolicy", Still(), batch_size=BATCH, buffer_size=100_000, policy_kwargs=layers)
    buffer, rows = model.replay_buffer, transitions(100_000, 1)
    buffer.observations[:], buffer.next_observations[:] = (
        rows["observation"],
        rows["next_observation"],
    )
    buffer.actions[:], buffer.rewards[:], buffer.full = rows["action"], rows["reward"], True
    model.set_logger(Logger(None, []))
    model._current_progress_remaining = 1.0

    def step() -> int:
        model.train(UPDATES, BATCH)
        return UPDATES

    step()
    return step


def our_loop(steps: int) -> tuple[float, float]:
    """Env steps per second of our loop, and its overhead over physics plus updates.

    The overhead compares the processor time of the loop with that of its two parts alone, so
    that what overlaps is not counted as saved.
    """
    from booster_ray.train.pretrain import make_collector

    settings = config(**PEERS_STYLE)
    collector: Any = make_collector(settings)
    done = 0
    while done < 4096:  # compiles, and fills the replay
        collector.advance(done)
        done += collector.stride
    began, spent, start = time.perf_counter(), time.process_time(), done
    while done < start + steps:
        collector.advance(done)
        done += collector.stride
    jax.block_until_ready(collector.learner._state.updates)
    seconds, spent = time.perf_counter() - began, time.process_time() - spent

    count = steps // collector.stride
    rng = np.random.default_rng(0)
    actions = np.tanh(rng.normal(size=(count, WORLDS, ACTION)))
    world, learner = collector._world, collector.learner
    sac, state = learner._sac, learner._state
    batches = learner.replay.sample((UPDATES, BATCH), rng)
    parts = time.process_time()
    for action in actions:
        world.step(0.1 * action)
        state, _ = sac.update(state, batches)
    jax.block_until_ready(state.updates)
    parts = time.process_time() - parts
    collector.close()
    return (done - start) / seconds, spent / parts - 1.0


def brax_loop(steps: int) -> float:
    """Env steps per second of Brax's ``sac.train`` on our MJX world, compilation left out."""
    from brax.training.agents.sac import networks as sac_networks
    from brax.training.agents.sac import train as brax_sac

    from booster_ray.envs.mjx import SoccerEnv
    from booster_ray.evaluate.scores import gains

    env = SoccerEnv(game.TASKS, gains(Config()), weights=Config().rewards.model_dump())
    seen: list[tuple[int, float]] = []

    def factory(*args: Any, **kwargs: Any) -> Any:
        return sac_networks.make_sac_networks(*args, **(kwargs | {"hidden_layer_sizes": CRITIC}))

    brax_sac.train(
        environment=env,
        num_timesteps=steps,
        episode_length=env.episode_length,
        num_envs=WORLDS,
        num_eval_envs=1,
        num_evals=5,
        batch_size=BATCH,
        grad_updates_per_step=UPDATES,
        min_replay_size=1024,
        max_replay_size=100_000,
        normalize_observations=True,
        discounting=0.97,
        network_factory=factory,
        max_devices_per_host=1,
        progress_fn=lambda done, metrics: seen.append((done, metrics.get("training/sps", 0.0))),
    )
    return statistics.median([sps for _, sps in seen if sps][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40_000, help="env steps of each whole loop")
    args = parser.parse_args()
    print(f"{CORES} CPUs, jax {jax.__version__}, batch {BATCH}, {UPDATES} updates a call")

    runs = {"ours": ours(False), "ours, sampling": ours(True), "brax": brax()}
    theirs = sbx()
    if theirs:
        runs["sbx, sampling"] = theirs
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, step in runs.items():
            rates[name].append(rate(step, args.seconds))
    median = {name: statistics.median(values) for name, values in rates.items()}
    for name, value in median.items():
        print(f"  {name:24} {value:9,.1f} updates/s")

    loops, overheads = zip(*(our_loop(args.steps) for _ in range(3)), strict=True)
    mine, brax_steps = statistics.median(loops), brax_loop(args.steps)
    print(f"\n  our loop, native worlds  {mine:9,.0f} env steps/s")
    print(f"  Brax SAC, MJX worlds     {brax_steps:9,.0f} env steps/s")
    summary = {
        "updates_vs_brax": median["ours"] / median["brax"],
        "updates_vs_sbx": median["ours, sampling"] / median["sbx, sampling"] if theirs else None,
        "end_to_end_vs_brax": mine / brax_steps,
        "loop_overhead": statistics.median(overheads),
    }
    print(json.dumps({k: v if v is None else round(v, 3) for k, v in summary.items()}))


if __name__ == "__main__":
    main()
