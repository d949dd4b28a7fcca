"""DDPG (Lillicrap et al. 2016, "Continuous Control with Deep Reinforcement Learning").

With the options of TD3 (Fujimoto et al. 2018): two critics, noise on the targets' actions, a
delayed actor.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from booster_ray.config.finetune import DDPG, ThawingStage
from booster_ray.rl.ddpg.statistics import Statistics
from booster_ray.rl.ddpg.team import Alone, Team
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.torch_actor import MLP, TorchActor, hidden_layers

Leaves = dict[str, Any]
"""Flat: NumPy arrays and JSON scalars by dotted path."""

TARGET_NOISE_CUT = 0.5
"""Bound of the noise on the targets' actions (TD3's c)."""


class _Transitions(NamedTuple):
    """One update's batch, observations normalized; every tensor leads with (batch,)."""

    seen: Tensor
    action: Tensor
    reward: Tensor
    following: Tensor
    discount: Tensor
    demonstrated: Tensor | None = None


class Critics(nn.Module):
    """Independent critics of the same shape. Raises ValueError for an unknown activation."""

    def __init__(self, count: int, inputs: int, hidden: Sequence[int], *style: Any) -> None:
        super().__init__()
        self.each = nn.ModuleList(MLP(inputs, hidden, 1, *style) for _ in range(count))

    def forward(self, seen: Tensor, action: Tensor) -> Tensor:
        """Shape: (n, obs) normalized, (n, act) → (critics, n)."""
        x = torch.cat([seen, action], dim=-1)
        return torch.stack([_exact_head(critic, x).squeeze(-1) for critic in self.each])

    def initialize(self, generator: torch.Generator) -> None:
        """Draw new parameters."""
        for critic in self.each:
            assert isinstance(critic, MLP)
            critic.initialize(generator)


class Ddpg:
    """Networks, targets and optimizers; everything that learning changes is in :meth:`state`.

    Args:
        config: hyperparameters.
        actor: where learning starts; taken over.
        seed: of the critics' parameters, equal on all workers; see also :meth:`seed_noise`.
        adapt: learn the observations' normalization too, from what :meth:`act` sees; otherwise
            the actor's stays.
        demonstrated: batches tell what a demonstrator would have done, and the anchor is that.
        team: workers that learn together; gradients are averaged over them.
        device: where to compute.

    Raises:
        ValueError: a stage of ``config.thawing`` thaws more layers than the actor has.
    """

    def __init__(
        self,
        config: DDPG,
        actor: TorchActor,
        seed: int,
        *,
        adapt: bool = False,
        demonstrated: bool = False,
        team: Team | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config, self.team, self.device = config, team or Alone(), torch.device(device)
        spec = actor.spec()
        self._layers = [*hidden_layers(actor.mlp), actor.mlp.head]
        for stage in config.thawing:
            if (stage.layers or 0) > len(self._layers):
                raise ValueError(
                    f"ddpg.thawing: layers is {stage.layers}; the actor has {len(self._layers)}"
                )
        self.actor = actor.to(self.device)
        inputs = spec["observation_size"] + spec["action_size"]
        style = spec["activation"], spec["layer_norm"]
        critics = Critics(config.critics, inputs, config.critic_hidden, *style)
        # On the CPU everywhere: the same seed gives the same parameters on every device.
        self._generator = torch.Generator().manual_seed(seed)
        critics.initialize(self._generator)
        self.critics = critics.to(self.device)
        self._target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self._target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self._judge = _without_gradient(self.critics)
        # A normalization that still changes would change what the first policy does.
        at_first = not (adapt or demonstrated)
        anchored = at_first and any(weight for _, weight in config.anchor)
        self._anchor = copy.deepcopy(self.actor).requires_grad_(False) if anchored else None
        self._critic_opt = _adam(self.critics.parameters(), config.critic_lr)
        self._actor_opt = _adam(self.actor.parameters(), config.thawing[0].lr)
        self._statistics = Statistics(spec["observation_size"]) if adapt else None
        self._updates = 0
        self._metrics: dict[str, Tensor] = {}
        compiled = torch.compile if config.compile else _as_it_is
        self._critic_loss = compiled(self._critic_loss_of)
        self._actor_loss = compiled(self._actor_loss_of)

    # -- acting ------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions (n, act) for raw observations (n, obs), float32."""
        action: np.ndarray = self.actor(self._tensor(observation)).cpu().numpy()
        return action

    def observe(self, observation: np.ndarray) -> None:
        """Take observations (n, obs) into the normalization, where it is learned."""
        if self._statistics is not None:
            self._statistics.update(observation, self.team)
            self._normalize_by(self._statistics)

    def _normalize_by(self, statistics: Statistics) -> None:
        for actor in (self.actor, self._target_actor):
            actor.mean.copy_(torch.from_numpy(statistics.mean))
            actor.deviation.copy_(torch.from_numpy(statistics.deviation()))

    # -- learning ----------------------------------------------------------------------------

    def seed_noise(self, seed: int) -> None:
        """Seed the noise on targets anew, on each worker by a number of its own."""
        self._generator.manual_seed(seed)

    def learn(self, batches: Batch, stage: ThawingStage | None, anchor: float = 0.0) -> None:
        """One update for each of the stacked batches.

        Args:
            batches: float32 arrays (updates, batch, ...), ``discount`` among them; with a team,
                this worker's part.
            stage: how much of the actor learns; None: the critics alone.
            anchor: weight of staying at the first policy, where ``config.anchor`` has any, or
                near the demonstrator.
        """
        thawed = self._thaw(stage)
        tensors = [self._tensor(np.asarray(part)) for part in batches if part is not None]
        for observation, action, reward, following, _, *rest in zip(*tensors, strict=True):
            with torch.no_grad():
                batch = _Transitions(
                    self.actor.normalize(observation), action, reward,
                    self.actor.normalize(following), *rest,
                )  # fmt: skip
            self._update_critics(batch)
            if thawed and self._updates % self.config.actor_every == 0:
                self._update_actor(batch, thawed, torch.tensor(anchor, device=self.device))
            self._track()
            self._updates += 1

    def _thaw(self, stage: ThawingStage | None) -> list[Tensor]:
        """The actor's parameters that learn in a stage; the others lose their gradient."""
        count = 0 if stage is None else stage.layers or len(self._layers)
        thawed: list[Tensor] = []
        for depth, layer in enumerate(reversed(self._layers)):
            layer.requires_grad_(depth < count)
            thawed += list(layer.parameters()) if depth < count else []
        for group in self._actor_opt.param_groups:
            group["lr"] = group["lr"] if stage is None else stage.lr
        return thawed

    def _update_critics(self, batch: _Transitions) -> None:
        noise = self._target_noise(batch.action.shape)
        with self._precision():
            loss, q = self._critic_loss(batch, noise)
        norm = self._step(self._critic_opt, loss, list(self.critics.parameters()))
        q = q.detach()
        self._metrics |= {"critic_loss": loss.detach(), "critic_grad_norm": norm}
        self._metrics |= {"q": q.mean(), "q_max": q.max()}

    def _critic_loss_of(self, batch: _Transitions, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared Bellman error, summed over the critics, and their values (critics, batch)."""
        with torch.no_grad():
            action = torch.tanh(_exact_head(self._target_actor.mlp, batch.following))
            if noise is not None:
                action = (action + noise).clamp(-1.0, 1.0)
            value = self._target_critics(batch.following, action).amin(dim=0)
            target = batch.reward + batch.discount * value
        q = self.critics(batch.seen, batch.action)
        return ((q - target) ** 2).mean(dim=1).sum(), q

    def _update_actor(self, batch: _Transitions, thawed: list[Tensor], anchor: Tensor) -> None:
        with self._precision():
            loss, change = self._actor_loss(batch, anchor)
        norm = self._step(self._actor_opt, loss, thawed)
        self._metrics |= {"actor_loss": loss.detach(), "actor_grad_norm": norm}
        self._metrics |= {"policy_change": change.detach()}

    def _actor_loss_of(self, batch: _Transitions, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """-Q of the first critic, and the mean squared change of the action between states.

        The anchor is the behaviour-cloning term of TD3+BC (Fujimoto & Gu 2021, "A Minimalist
        Approach to Offline RL", eq. 4-5), towards the policy that learning began with or the
        demonstrator (Nair et al. 2018, "Overcoming Exploration in RL with Demonstrations"). The
        change's weight is CAPS's temporal smoothness (Mysore et al. 2021, "Regularizing Action
        Policies for Smooth Control with Reinforcement Learning", eq. 3, squared).
        """
        action = torch.tanh(_exact_head(self.actor.mlp, batch.seen))
        q = self._judge(batch.seen, action)[0]
        loss = -q.mean()
        held = batch.demonstrated
        if self._anchor is not None:
            held = torch.tanh(_exact_head(self._anchor.mlp, batch.seen))
        if held is not None:
            apart = ((action - held) ** 2).mean()
            loss = loss + anchor * q.detach().abs().mean() * apart
        if not self.config.smoothness_penalty:
            return loss, torch.zeros(())
        following = torch.tanh(_exact_head(self.actor.mlp, batch.following))
        change = ((following - action) ** 2).mean()
        return loss + self.config.smoothness_penalty * change, change

    def _step(self, optimizer: torch.optim.Adam, loss: Tensor, parameters: list[Tensor]) -> Tensor:
        """Move the parameters; the norm of the gradients' mean over the team."""
        gradients = torch.autograd.grad(loss, parameters)
        self.team.average(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        if (most := self.config.max_grad_norm) is not None:
            torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def _track(self) -> None:
        """Move the targets towards the networks."""
        for target, source in (
            (self._target_actor, self.actor),
            (self._target_critics, self.critics),
        ):
            torch._foreach_lerp_(
                list(target.parameters()), list(source.parameters()), self.config.tau
            )

    def _target_noise(self, shape: torch.Size) -> Tensor | None:
        deviation = self.config.target_noise
        if not deviation:
            return None
        drawn = deviation * torch.randn(shape, generator=self._generator)
        return drawn.clamp(-TARGET_NOISE_CUT, TARGET_NOISE_CUT).to(self.device)

    def _precision(self) -> torch.autocast:
        half = self.config.matmul == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)

    def _tensor(self, array: np.ndarray) -> Tensor:
        # JAX hands out arrays that are not writable, which torch warns of: those are copied.
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)

    def numbers(self) -> dict[str, float]:
        """Losses, gradient norms and values of the newest updates."""
        return {name: float(value) for name, value in self._metrics.items()}

    # -- checkpoint --------------------------------------------------------------------------

    def state(self) -> Leaves:
        """Everything that learning changes, copied."""
        leaves: Leaves = {"updates": self._updates, "generator": self._generator.get_state()}
        for name, module in self._modules():
            leaves |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, module, optimizer in self._optimizers():
            for key, parameter in module.named_parameters():
                kept = optimizer.state.get(parameter, {})
                leaves |= {f"{name}.{key}.{part}": value for part, value in kept.items()}
        if self._statistics is not None:
            leaves |= {f"statistics.{k}": v for k, v in self._statistics.state().items()}
        return {
            name: leaf.detach().cpu().numpy().copy() if isinstance(leaf, Tensor) else leaf
            for name, leaf in leaves.items()
        }

    def restore(self, leaves: Leaves) -> None:
        """Go on where :meth:`state` was taken.

        Raises:
            ValueError: a leaf is missing or of another shape, named with both.
        """
        for name, module in self._modules():
            _fill(module, _below(leaves, name), name)
        for name, module, optimizer in self._optimizers():
            optimizer.state.clear()
            for key, parameter in module.named_parameters():
                # Layers that have not thawed yet have no moments.
                if kept := _below(leaves, f"{name}.{key}"):
                    parts = {part: torch.from_numpy(np.array(v)) for part, v in kept.items()}
                    optimizer.state[parameter] = {k: v.to(self.device) for k, v in parts.items()}
        if self._statistics is not None:
            self._statistics.restore(_below(leaves, "statistics"))
        self._generator.set_state(torch.from_numpy(np.array(leaves["generator"])))
        self._updates = int(leaves["updates"])

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        yield "actor", self.actor
        yield "target_actor", self._target_actor
        yield "critics", self.critics
        yield "target_critics", self._target_critics
        if self._anchor is not None:
            yield "anchor", self._anchor

    def _optimizers(self) -> Iterator[tuple[str, nn.Module, torch.optim.Adam]]:
        yield "actor_opt", self.actor, self._actor_opt
        yield "critic_opt", self.critics, self._critic_opt


def _exact_head(mlp: nn.Module, x: Tensor) -> Tensor:
    """An :class:`MLP` whose head computes in float32, whatever its hidden layers do.

    bfloat16 has 8 bits: a value of 100 would be known to 0.5, and the gain of an action is less.
    """
    assert isinstance(mlp, MLP)
    hidden = mlp.features(x).float()
    with torch.autocast(x.device.type, enabled=False):
        return mlp.head(hidden)


def _adam(parameters: Iterator[nn.Parameter], rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=rate, fused=True)


def _as_it_is(function: Any) -> Any:
    return function


def _without_gradient(module: nn.Module) -> nn.Module:
    """The same module over the same memory, whose parameters ask for no gradient."""
    twin = copy.deepcopy(module)
    for mine, theirs in zip(twin.parameters(), module.parameters(), strict=True):
        mine.data = theirs.data
    return twin.requires_grad_(False)


def _below(leaves: Leaves, name: str) -> Leaves:
    prefix = f"{name}."
    return {k.removeprefix(prefix): v for k, v in leaves.items() if k.startswith(prefix)}


@torch.no_grad()
def _fill(module: nn.Module, leaves: Leaves, name: str) -> None:
    # In place, because the critics' memory has two owners.
    for key, tensor in module.state_dict().items():
        found = leaves.get(key)
        if found is None or np.shape(found) != tuple(tensor.shape):
            what = "missing" if found is None else f"of shape {np.shape(found)}"
            raise ValueError(
                f"checkpoint leaf {name}.{key} is {what}; expected {tuple(tensor.shape)}"
            )
        tensor.copy_(torch.from_numpy(np.array(found)))
