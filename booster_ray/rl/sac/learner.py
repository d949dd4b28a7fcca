"""The SAC learner: one explicit state, pure jitted functions over it.

Learners of one structure share their compiled functions; what differs in number is an argument.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from booster_ray.config import SAC
from booster_ray.rl import normalizer
from booster_ray.rl import symmetry as mirrors
from booster_ray.rl.sac import losses, values
from booster_ray.rl.sac.losses import Array, Batch, Metrics, Params
from booster_ray.rl.sac.networks import MATMULS, MLP, TwinCritic, split_head, squashed
from booster_ray.rl.sac.optimizer import Decay, Rates, decay, optimizer
from booster_ray.rl.symmetry import Mirror, mirrored
from booster_ray.runtime.programs import Programs


class SacState(NamedTuple):
    """Everything that learning changes."""

    actor: Params
    critic: Params
    target_critic: Params
    log_alpha: jax.Array
    """(), or (tasks,)."""
    actor_opt: optax.OptState
    critic_opt: optax.OptState
    alpha_opt: optax.OptState
    normalizer: normalizer.Normalizer
    key: jax.Array
    updates: jax.Array
    """() int32: gradient updates made."""
    actor_metrics: Metrics | None = None
    """Numbers of the actor's last update, where only every ``actor_every``-th update has one."""


class _ActorSide(NamedTuple):
    """What an update of the actor and of the temperature changes."""

    actor: Params
    actor_opt: optax.OptState
    log_alpha: jax.Array
    alpha_opt: optax.OptState
    metrics: Metrics | None


class Numbers(NamedTuple):
    """What may differ between learners that share their compiled functions."""

    actor: Rates
    """Of the actor's optimizer."""
    critic: Rates
    """Of the critics' optimizer."""
    alpha: Rates
    """Of the temperature's optimizer."""
    tau: Decay
    """The target critics' step; ``new`` is what they take over of the critics."""
    discount: jax.Array
    target_entropy: jax.Array
    """Nats."""
    log_alpha: jax.Array
    """Logarithm of the temperature at the start."""
    log_std_min: jax.Array
    log_std_max: jax.Array
    support: jax.Array | None
    """(atoms,): returns that a distributional critic knows; None: the critic is scalar."""


class Functions(NamedTuple):
    """Of ``jax.jit``, for all learners of one structure; each takes their numbers first."""

    init: Any
    act: Any
    act_mean: Any
    update: Any
    imitate: Any


_PROGRAMS: Programs[Functions] = Programs(4)


class _Noise(NamedTuple):
    """Standard normal numbers of one update."""

    critic: jax.Array
    """(batch, act): of the actions that targets imagine."""
    actor: jax.Array
    """(batch, act): of those that the actor learns from."""


class Sac:
    """Networks, optimizers and jitted functions for one configuration; holds no state.

    With ``config.devices`` above 1 the parameters stand on each of that many local devices, and
    every batch is split among them (synchronous data parallelism): the compiler averages the
    gradients, and the result is that of one device but for the order of sums.

    Args:
        config: hyperparameters.
        observation_size: numbers in an observation.
        action_size: numbers in an action, each in [-1, 1].
        mirror: the task's symmetry, where ``config.symmetry`` wants one.
        tasks: how many have their one-hot at the observation's end; ``config.task_temperature``
            needs several.
        lr_factor: of the actor's and critics' learning rates after so many env steps.

    Raises:
        ValueError: fewer local devices than the config wants, a mirror that is missing or does
            not fit, or too few tasks.
    """

    def __init__(
        self,
        config: SAC,
        observation_size: int,
        action_size: int,
        mirror: Mirror | None = None,
        tasks: int = 0,
        lr_factor: Callable[[int], float] = lambda env_steps: 1.0,
    ) -> None:
        if config.task_temperature and tasks < 2:
            raise ValueError(f"a temperature for each of {tasks} tasks; expected several")
        self._tasks = tasks if config.task_temperature else 0
        self.config = config
        self.numbers = numbers_of(config)
        self._lr_factor = lr_factor
        self._sizes = observation_size, action_size
        self._mirror = _checked(mirror, self._sizes) if config.symmetry == "augment" else None
        style = config.activation, config.layer_norm
        atoms = config.num_atoms if config.critic == "c51" else None
        self._actor = MLP(tuple(config.actor_hidden), 2 * action_size, *style, matmul=config.matmul)
        self._critic = TwinCritic(tuple(config.critic_hidden), *style, atoms, config.matmul)
        images = None if self._mirror is None else tuple(map(tuple, self._mirror))
        self.structure: Hashable = (_structure(config), self._sizes, images, self._tasks)
        """What learners share that share their compiled functions."""
        self.functions = _PROGRAMS.of(self.structure, self._compiled)

    def bound(self, numbers: Numbers) -> Sac:
        """This learner with other numbers, which may be traced."""
        other = copy.copy(self)
        other.numbers = numbers
        return other

    def numbers_at(self, env_steps: int) -> Numbers:
        """This learner's numbers after so many env steps: its learning rates have a schedule."""
        factor, config = self._lr_factor(env_steps), self.config
        # Multiplied on the host: on the device it would be one more program to compile.
        return self.numbers._replace(
            actor=self.numbers.actor._replace(lr=jnp.float32(factor * config.actor_lr)),
            critic=self.numbers.critic._replace(lr=jnp.float32(factor * config.critic_lr)),
        )

    def init(self, seed: int) -> SacState:
        """The state that learning begins with."""
        return self.functions.init(self.numbers, seed)

    def act(self, state: SacState, observation: Array) -> tuple[SacState, jax.Array]:
        """Explore: sample actions (n, act), and take the observations (n, obs) into account."""
        return self.functions.act(self.numbers, state, observation)

    def act_mean(self, state: SacState, observation: Array) -> jax.Array:
        """Exploit: the squashed mean, (n, obs) → (n, act)."""
        return self.functions.act_mean(self.numbers, state, observation)

    def update(self, state: SacState, batches: Batch) -> tuple[SacState, Metrics]:
        """One update for each of the stacked batches (updates, batch, ...); mean metrics.

        ``state`` is donated.
        """
        return self.functions.update(self.numbers, state, batches)

    def imitate(self, state: SacState, batches: Batch, lr: jax.Array) -> tuple[SacState, Metrics]:
        """Regress the actor's mean on the actions of stacked batches (updates, batch, ...).

        ``lr``: learning rate in place of the config's. Critics and temperature stay as they are.
        ``state`` is donated.
        """
        return self.functions.imitate(self.numbers, state, batches, lr)

    def _compiled(self) -> Functions:
        compiled = _compiler(self.config.devices)

        def taking(method: Callable[..., Any]) -> Callable[..., Any]:
            return lambda numbers, *given: method(self.bound(numbers), *given)

        return Functions(
            compiled(taking(Sac._init), "all", "all"),
            compiled(taking(Sac._act), "all", "all", "all"),
            compiled(taking(Sac._act_mean), "all", "all", "all"),
            compiled(taking(Sac._update), "all", "all", "split", donate_argnums=1),
            compiled(taking(Sac._imitate), "all", "all", "split", "all", donate_argnums=1),
        )

    @property
    def _head(self) -> values.ValueHead:
        if self.numbers.support is None:
            return values.scalar(self.config.q_target)
        return values.c51(self.config.q_target, self.numbers.support)

    @property
    def _nets(self) -> dict[str, Any]:
        return {
            "actor_fn": self._actor_fn, "critic_fn": self._critic.apply, "head": self._head
        }  # fmt: skip

    def _init(self, seed: jax.Array) -> SacState:
        key, actor_key, critic_key = jax.random.split(jax.random.key(seed), 3)
        observation, action = (jnp.zeros((1, size)) for size in self._sizes)
        actor = self._actor.init(actor_key, observation)
        critic = self._critic.init(critic_key, observation, action)
        log_alpha = self.numbers.log_alpha
        if self._tasks:
            log_alpha = jnp.full(self._tasks, log_alpha)
        delayed = self.config.actor_every > 1
        return SacState(
            actor=actor,
            critic=critic,
            target_critic=critic,
            log_alpha=log_alpha,
            actor_opt=optimizer(self.numbers.actor).init(actor),
            critic_opt=optimizer(self.numbers.critic).init(critic),
            alpha_opt=optimizer(self.numbers.alpha).init(log_alpha),
            normalizer=normalizer.init(self._sizes[0]),
            key=jax.random.key_data(key),
            updates=jnp.int32(0),
            actor_metrics={name: jnp.zeros(()) for name in ACTOR_METRICS} if delayed else None,
        )

    def _actor_fn(self, params: Params, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        output: Any = self._actor.apply(params, observation)
        return split_head(output, self.numbers.log_std_min, self.numbers.log_std_max)

    def _normalize(self, state: SacState, observation: jax.Array) -> jax.Array:
        if not self.config.normalize_observations:
            return observation
        return normalizer.normalize(state.normalizer, observation)

    def _act(self, state: SacState, observation: jax.Array) -> tuple[SacState, jax.Array]:
        state = state._replace(normalizer=normalizer.update(state.normalizer, observation))
        key, use = jax.random.split(jax.random.wrap_key_data(state.key))
        mean, log_std = self._actor_fn(state.actor, self._normalize(state, observation))
        action, _ = squashed(mean, log_std, jax.random.normal(use, mean.shape))
        return state._replace(key=jax.random.key_data(key)), action

    def _act_mean(self, state: SacState, observation: jax.Array) -> jax.Array:
        mean, _ = self._actor_fn(state.actor, self._normalize(state, observation))
        return jnp.tanh(mean)

    def _update(self, state: SacState, batches: Batch) -> tuple[SacState, Metrics]:
        if self._mirror is not None:
            batches = _with_mirror_images(batches, self._mirror)
        batches = batches._replace(
            observation=self._normalize(state, batches.observation),
            next_observation=self._normalize(state, batches.next_observation),
        )
        state, noise = self._draw(state, batches.action.shape)
        state, metrics = jax.lax.scan(self._update_once, state, (batches, noise))
        return state, jax.tree.map(jnp.mean, metrics)

    def _draw(self, state: SacState, shape: tuple[int, ...]) -> tuple[SacState, _Noise]:
        """The noise of (updates, batch, act) actions, each update from keys of its own.

        Ahead of the updates, because within them the compiler would draw it anew wherever it is
        used.
        """

        def draw(key: jax.Array, _: None) -> tuple[jax.Array, _Noise]:
            key, *uses = jax.random.split(key, 3)
            return key, _Noise(*(jax.random.normal(use, shape[1:]) for use in uses))

        key = jax.random.wrap_key_data(state.key)
        key, noise = jax.lax.scan(draw, key, length=shape[0])
        return state._replace(key=jax.random.key_data(key)), noise

    def _imitate(self, state: SacState, batches: Batch, lr: jax.Array) -> tuple[SacState, Metrics]:
        if self._mirror is not None:
            batches = _with_mirror_images(batches, self._mirror)

        def once(state: SacState, batch: Batch) -> tuple[SacState, Metrics]:
            (loss, metrics), grads = jax.value_and_grad(losses.imitation_loss, has_aux=True)(
                state.actor, self._normalize(state, batch.observation), batch.action,
                actor_fn=self._actor_fn,
            )  # fmt: skip
            rates = self.numbers.actor._replace(lr=lr)
            change, opt = optimizer(rates).update(grads, state.actor_opt, state.actor)
            actor = optax.apply_updates(state.actor, change)
            state = state._replace(actor=actor, actor_opt=opt, updates=state.updates + 1)
            return state, metrics | {"actor_loss": loss}

        state, metrics = jax.lax.scan(once, state, batches)
        return state, jax.tree.map(jnp.mean, metrics)

    def _update_once(
        self, state: SacState, inputs: tuple[Batch, _Noise]
    ) -> tuple[SacState, Metrics]:
        batch, noise = inputs
        alpha = jnp.exp(state.log_alpha)
        if self._tasks:
            alpha = alpha[self._task_of(batch)]
        critic, critic_opt, metrics = self._update_critic(state, alpha, batch, noise.critic)

        def update_actor(before: _ActorSide) -> _ActorSide:
            return self._update_actor(before, critic, alpha, batch, noise.actor)

        after = _ActorSide(
            state.actor, state.actor_opt, state.log_alpha, state.alpha_opt, state.actor_metrics
        )
        every = self.config.actor_every
        if every == 1:
            after = update_actor(after)
        else:
            # Delayed policy updates (Fujimoto et al. 2018, TD3): the first of every `every`.
            after = jax.lax.cond(state.updates % every == 0, update_actor, lambda same: same, after)
        tau = self.numbers.tau

        def follow(new: jax.Array, old: jax.Array) -> jax.Array:
            return tau.new * new + tau.kept * old

        new = state._replace(
            actor=after.actor,
            critic=critic,
            target_critic=jax.tree.map(follow, critic, state.target_critic),
            log_alpha=after.log_alpha,
            actor_opt=after.actor_opt,
            critic_opt=critic_opt,
            alpha_opt=after.alpha_opt,
            updates=state.updates + 1,
            actor_metrics=after.metrics if every > 1 else None,
        )
        told = jnp.mean(alpha) if self._tasks else alpha
        return new, {**metrics, **(after.metrics or {}), "alpha": told}

    def _task_of(self, batch: Batch) -> jax.Array:
        """(batch,): the tasks' numbers. Of a one-hot that is normalized, too, the 1 is largest."""
        return jnp.argmax(batch.observation[:, -self._tasks :], axis=-1)

    def _update_critic(
        self, state: SacState, alpha: jax.Array, batch: Batch, noise: jax.Array
    ) -> tuple[Params, optax.OptState, Metrics]:
        (loss, metrics), grads = jax.value_and_grad(losses.critic_loss, has_aux=True)(
            state.critic, state.target_critic, state.actor, alpha, batch,
            self.numbers.discount, noise, **self._nets,
        )  # fmt: skip
        change, opt = optimizer(self.numbers.critic).update(grads, state.critic_opt, state.critic)
        metrics |= {"critic_loss": loss, "critic_grad_norm": _norm(grads)}
        return optax.apply_updates(state.critic, change), opt, metrics

    def _update_actor(
        self, before: _ActorSide, critic: Params, alpha: jax.Array, batch: Batch, noise: jax.Array
    ) -> _ActorSide:
        tasks = {"tasks": jax.nn.one_hot(self._task_of(batch), self._tasks)} if self._tasks else {}
        (loss, metrics), grads = jax.value_and_grad(losses.actor_loss, has_aux=True)(
            before.actor, critic, alpha, batch, noise, **self._nets, **tasks
        )
        change, actor_opt = optimizer(self.numbers.actor).update(
            grads, before.actor_opt, before.actor
        )
        actor = optax.apply_updates(before.actor, change)
        metrics |= {"actor_loss": loss, "actor_grad_norm": _norm(grads)}

        alpha_loss = losses.task_alpha_loss if self._tasks else losses.alpha_loss
        log_prob = -(metrics.pop("task_entropy") if self._tasks else metrics["entropy"])
        grad = jax.grad(alpha_loss)(before.log_alpha, log_prob, self.numbers.target_entropy)
        change, alpha_opt = optimizer(self.numbers.alpha).update(
            grad, before.alpha_opt, before.log_alpha
        )
        log_alpha = optax.apply_updates(before.log_alpha, change)
        return _ActorSide(actor, actor_opt, log_alpha, alpha_opt, metrics)


ACTOR_METRICS = ("actor_loss", "actor_grad_norm", "entropy", "log_std")
"""What an update of the actor reports."""


def numbers_of(config: SAC) -> Numbers:
    """The numbers of a config, on the device."""
    b1, b2 = decay(config.adam_b1), decay(config.adam_b2)
    norm = None if config.max_grad_norm is None else jnp.float32(config.max_grad_norm)

    def rates(lr: float) -> Rates:
        return Rates(jnp.float32(lr), b1, b2, jnp.float32(config.weight_decay), norm)

    support = None
    if config.critic == "c51":
        support = jnp.linspace(config.v_min, config.v_max, config.num_atoms)
    return Numbers(
        actor=rates(config.actor_lr),
        critic=rates(config.critic_lr),
        alpha=Rates(jnp.float32(config.alpha_lr), b1, b2),
        tau=Decay(kept=jnp.float32(1.0 - config.tau), new=jnp.float32(config.tau)),
        discount=jnp.float32(config.discount),
        target_entropy=jnp.float32(config.target_entropy),
        log_alpha=jnp.float32(math.log(np.float32(config.init_alpha))),
        log_std_min=jnp.float32(config.log_std_min),
        log_std_max=jnp.float32(config.log_std_max),
        support=support,
    )


_NUMBERS = (
    "actor_lr", "critic_lr", "lr_factor", "alpha_lr", "adam_b1", "adam_b2", "weight_decay",
    "discount", "tau", "init_alpha", "target_entropy", "log_std_min", "log_std_max",
    "v_min", "v_max",
    # Of the loop and of the replay, which no compiled function of the learner knows.
    "n_step", "batch_size", "updates_per_step", "replay_size", "learning_starts", "task_shares",
)  # fmt: skip
"""Settings that are arguments, or nothing to the learner's functions."""


def _structure(config: SAC) -> Hashable:
    """All that compiles anew; whatever is added to the config does until it is said otherwise."""
    rest = config.model_dump(exclude=set(_NUMBERS))
    rest["max_grad_norm"] = config.max_grad_norm is not None
    rest["matmul"] = MATMULS[config.matmul]
    return tuple(rest.items())


def _norm(tree: Params) -> jax.Array:
    """Euclidean norm over all leaves."""

    def square(leaf: jax.Array) -> jax.Array:
        # On a CPU XLA sums by product with ones five times as fast as by a reduction.
        rows = (leaf**2).reshape(-1, leaf.shape[-1])
        return jnp.sum(rows @ jnp.ones(leaf.shape[-1]))

    return jnp.sqrt(sum(square(leaf) for leaf in jax.tree.leaves(tree)))


def _checked(mirror: Mirror | None, sizes: tuple[int, int]) -> Mirror:
    if mirror is None:
        raise ValueError("symmetry is augment, but no mirror was given")
    mirrors.check(mirror, *sizes)
    return mirror


def _with_mirror_images(batches: Batch, mirror: Mirror) -> Batch:
    """Every transition of (updates, batch, ...), followed by its mirror image: twice the batch.

    Mittal et al. 2024, "Symmetry Considerations for Learning Task Symmetric Robot Policies";
    FastSAC does the same. Returns, endings and discounts are equal in the mirror.
    """

    def beside(part: jax.Array, image: jax.Array) -> jax.Array:
        # Neighbours, not halves: each device mirrors its own part of a batch.
        pair = jnp.stack([part, image], axis=2)
        return pair.reshape(part.shape[0], -1, *part.shape[2:])

    return Batch(
        observation=beside(batches.observation, mirrored(mirror.observation, batches.observation)),
        action=beside(batches.action, mirrored(mirror.action, batches.action)),
        reward=beside(batches.reward, batches.reward),
        next_observation=beside(
            batches.next_observation, mirrored(mirror.observation, batches.next_observation)
        ),
        terminated=beside(batches.terminated, batches.terminated),
        discount=None if batches.discount is None else beside(batches.discount, batches.discount),
    )


def _compiler(devices: int) -> Callable[..., Any]:
    """``jax.jit`` that spreads a call over local devices.

    What it returns takes a function and, for each argument, ``all`` (every device holds the
    whole) or ``split`` (axis 1, the batch, is divided); results are whole on every device.
    """
    if devices == 1:
        return lambda function, *arguments, **options: jax.jit(function, **options)
    local = jax.local_devices()
    if len(local) < devices:
        raise ValueError(f"devices is {devices}, but JAX sees {len(local)} here: {local}")
    mesh = Mesh(np.array(local[:devices]), ("data",))
    whole = NamedSharding(mesh, PartitionSpec())
    place = {"all": whole, "split": NamedSharding(mesh, PartitionSpec(None, "data"))}

    def compiled(function: Callable[..., Any], *arguments: str, **options: Any) -> Any:
        inputs = tuple(place[kind] for kind in arguments)
        return jax.jit(function, in_shardings=inputs, out_shardings=whole, **options)

    return compiled
