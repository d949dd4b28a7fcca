"""Worlds divided among devices, each of which steps its own share of them and no other."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from booster_ray.envs.device import Dynamics, ScalableDynamics
from booster_ray.envs.mjx import Outcome

AXIS = "data"
WHOLE, SPLIT = PartitionSpec(), PartitionSpec(AXIS)


class DividedDynamics:
    """:class:`~booster_ray.envs.device.Dynamics` whose control step is one program a device.

    A compiler that is left to divide the step may have every device step all worlds: it cannot
    look into warp's kernels, whose contacts stand in one buffer for the whole batch. Here a device
    calls the step of a smaller batch, which has its own buffer. What is drawn for a world does
    not depend on how many devices there are.

    Args:
        whole: all worlds.
        part: equal worlds, as many as a device steps.
        devices: local devices.

    Raises:
        ValueError: the devices do not share the worlds evenly.
    """

    def __init__(self, whole: Dynamics[Any], part: Dynamics[Any], devices: int) -> None:
        if part.num_envs * devices != whole.num_envs:
            raise ValueError(
                f"{devices} devices of {part.num_envs} worlds do not make {whole.num_envs}"
            )
        self._whole, self._part = whole, part
        self.mesh = Mesh(np.array(jax.local_devices()[:devices]), (AXIS,))
        self.num_envs = whole.num_envs
        self.observation_size, self.action_size = whole.observation_size, whole.action_size
        self.tasks, self.terms = whole.tasks, whole.terms
        self.numbers = part.numbers
        self.structure: Hashable = ("divided", devices, part.structure)

    def bound(self, numbers: Any) -> DividedDynamics:
        """These worlds with other numbers, which may be traced."""
        other = copy.copy(self)
        other.numbers = numbers
        return other

    def start(self, seed: int) -> Any:
        """The state in which every episode begins: that of one device, in a part's structure."""
        structure = jax.tree.structure(jax.eval_shape(self._part.start, seed))
        return jax.tree.unflatten(structure, jax.tree.leaves(self._whole.start(seed)))

    def observation(self, state: Any) -> jax.Array:
        """(num_envs, observation_size)."""
        return self._whole.observation(state)

    def advance(self, state: Any, action: jax.Array) -> tuple[Any, Outcome]:
        """One control step; see :class:`booster_ray.envs.device.Dynamics`."""

        def step(numbers: Any, state: Any, action: jax.Array) -> tuple[Any, Outcome]:
            state, outcome = self._part.bound(numbers).advance(state, action)
            return state, outcome._replace(dropped=jax.lax.psum(outcome.dropped, AXIS))

        def share(leaf: jax.Array) -> jax.ShapeDtypeStruct:
            first = (leaf.shape[0] // self.mesh.size,) if self._spec(leaf) == SPLIT else ()
            return jax.ShapeDtypeStruct((*first, *leaf.shape[len(first) :]), leaf.dtype)

        worlds = jax.tree.map(self._spec, state)
        shapes = jax.tree.map(share, (state, action))
        told = jax.eval_shape(self._part.advance, *shapes)[1]
        return jax.shard_map(
            step,
            mesh=self.mesh,
            in_specs=(WHOLE, worlds, SPLIT),
            out_specs=(worlds, jax.tree.map(lambda leaf: SPLIT if leaf.ndim else WHOLE, told)),
            # What is the same on all devices is so by construction: the sum above.
            check_vma=False,
        )(self.numbers, state, action)

    def _spec(self, leaf: Any) -> PartitionSpec:
        """Each world's, or each world's room in a buffer for all of them: divided; else whole."""
        return SPLIT if leaf.ndim and leaf.shape[0] % self.num_envs == 0 else WHOLE

    def placement(self, state: Any) -> Any:
        """Where each array of a state lies: a pytree of shardings."""
        return jax.tree.map(lambda leaf: NamedSharding(self.mesh, self._spec(leaf)), state)

    def scale_rewards(self, state: Any, factors: Mapping[str, float]) -> Any:
        """``state`` with weights of reward terms multiplied, where these worlds can."""
        if isinstance(self._whole, ScalableDynamics):
            return self._whole.scale_rewards(state, factors)
        return state

    def tree(self, state: Any) -> dict[str, Any]:
        """Nested dicts of arrays."""
        return self._whole.tree(state)

    def restored(self, state: Any, tree: dict[str, Any]) -> Any:
        """The state that ``tree`` was taken of; raises ValueError when it does not fit."""
        return self._whole.restored(state, tree)
