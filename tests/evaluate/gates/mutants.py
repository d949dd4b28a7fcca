"""Packages with one thing wrong, for gate 2 to find."""

# Annotations are evaluated here: TorchScript reads them.
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from booster_ray.policy import package
from booster_ray.policy.played import Remembering, script
from booster_ray.policy.settings import Settings
from booster_ray.soccer.observation import places

AFTER = """
_true_observe = Preprocessor.observe
def _wrong_observe(self, obs, info):
    seen = _true_observe(self, obs, info)
    part = slice({start}, {stop})
    {change}
    return seen
Preprocessor.observe = _wrong_observe
"""
"""Appended to the text: what it tells of one part is changed."""

CHANGES = {
    "zeroed": "seen[:, part] = 0",
    "mirrored": "seen[:, part] *= -1",
    "scaled by 1.01": "seen[:, part] *= 1.01",
    "swapped": "seen[:, part] = seen[:, part][:, ::-1].copy()",
}


class Mutant(NamedTuple):
    """What is wrong, and how to make it so in a package's folder."""

    name: str
    spoil: Callable[[Path], object]


def mutants(actor: nn.Module, other: nn.Module, settings: Settings) -> Iterator[Mutant]:
    """All of them; ``other`` is another policy of the same size."""
    for name, part in places(settings.features).items():
        for change, line in CHANGES.items():
            yield Mutant(f"{name} {change}", _text_added(part, line))
    a, b = places(settings.features)["ball"].start, places(settings.features)["target"].start
    both = f"seen[:, {a}:{a + 3}], seen[:, {b}:{b + 3}] = seen[:, {b}:{b + 3}].copy(), "
    yield Mutant(
        "ball and target swapped", _text_added(slice(0), f"{both}seen[:, {a}:{a + 3}].copy()")
    )
    yield from _texts(settings)
    yield from _played(actor, other, settings)


def _texts(settings: Settings) -> Iterator[Mutant]:
    steps, frequency = settings.decimation, settings.gait_frequency
    phase, late = (f"gait_phase(self.steps{by}, self.GAIT_FREQUENCY)" for by in ("", f" - {steps}"))
    hertz = "GAIT_FREQUENCY = {!r}\n".format
    first = "np.where({}, 0, self.steps)".format
    for name, old, new in (
        ("clock a control step late", phase, late),
        ("clock a physics step early", phase, "gait_phase(self.steps + 1, self.GAIT_FREQUENCY)"),
        ("clock 1 % fast", hertz(frequency), hertz(1.01 * frequency)),
        ("acts a physics step late", "acts = self.steps %", "acts = (self.steps - 1) %"),
        ("acts every 9 steps", f"DECIMATION = {steps}\n", f"DECIMATION = {steps - 1}\n"),
        ("never a first step", "parts += [first[:, None]", "parts += [0 * first[:, None]"),
        ("always a first step", "parts += [first[:, None]", "parts += [0 * first[:, None] + 1"),
        ("remembers every step", ", acts[:, None]]", ", 0 * acts[:, None] + 1]"),
        ("clock never begins anew", first("first"), first("False")),
        ("joints of the legs swapped", "obs[:, :24]]", "np.roll(obs[:, :24], 6, axis=1)]"),
        ("quaternion not turned", '[:, [3, 0, 1, 2]]', '[:, [0, 1, 2, 3]]'),
    ):  # fmt: skip
        yield Mutant(name, _text_replaced("preprocessor.py", old, new))
    limit = "[45.0, 45.0, 30.0, 65.0, 24.0, 15.0]"
    for name, new in (
        ("a limit too low", "[45.0, 45.0, 30.0, 55.0, 24.0, 15.0]"),
        ("limits of other joints", "[15.0, 45.0, 30.0, 65.0, 24.0, 45.0]"),
    ):
        yield Mutant(name, _text_replaced("action_function.py", limit, new))
    action = "return np.nan_to_num(np.clip(policy"
    nothing = _text_replaced("action_function.py", "return np.nan_to_num(", "return np.nan * (")
    yield Mutant("torques that are no numbers", nothing)
    yield Mutant(
        "torques 0.1 % low", _text_replaced("action_function.py", action, f"{action} * 0.999")
    )


def _played(actor: nn.Module, other: nn.Module, settings: Settings) -> Iterator[Mutant]:
    def scaled(name: str, factor: float) -> Settings:
        values = getattr(settings, name)
        many = isinstance(values, tuple)
        return settings._replace(
            **{name: tuple(factor * v for v in values) if many else factor * values}
        )

    for name in ("kp", "kd", "default_pose", "action_scale"):
        for factor in (0.99, 1.01):
            yield Mutant(f"{name} times {factor}", _module(actor, scaled(name, factor)))
    kp = list(settings.kp)
    kp[3], kp[4] = kp[4], kp[3]
    yield Mutant("knee and ankle gains swapped", _module(actor, settings._replace(kp=tuple(kp))))
    torque = settings._replace(mode="torque")
    yield Mutant("actions as torques", _module(actor, torque))
    for name, change in (
        ("normalizer of another policy", _other_normalizer(other)),
        ("network of another policy", lambda made: made.load_state_dict(other.state_dict())),
        ("actions of the legs swapped", _legs_swapped),
        ("last bias off by 1e-4", lambda made: made.mlp.head.bias.data.add_(1e-4)),
    ):
        yield Mutant(name, _module(_changed(actor, change), settings))
    yield Mutant("memory a control step old", _module(actor, settings, Forgetful))
    yield Mutant("memory of the action that is due", _module(actor, settings, Hasty))


def _changed(actor: nn.Module, change: Callable[[nn.Module], object]) -> nn.Module:
    made = copy.deepcopy(actor)
    change(made)
    return made


def _other_normalizer(other: nn.Module) -> Callable[[nn.Module], object]:
    def change(made: nn.Module) -> None:
        made.mean.copy_(other.mean)
        made.deviation.copy_(other.deviation)

    return change


def _legs_swapped(made: nn.Module) -> None:
    head = made.mlp.head
    for values in (head.weight.data, head.bias.data):
        values.copy_(values[[*range(6, 12), *range(6)]].clone())


class Forgetful(Remembering):
    """Remembers the action before the previous one."""

    oldest: Tensor

    def __init__(self, actor: nn.Module, settings: Settings) -> None:
        super().__init__(actor, settings)
        self.register_buffer("oldest", torch.zeros(0, 12, dtype=torch.float64))

    def forward(self, told: Tensor) -> Tensor:
        first, acts = told[:, -2:-1] > 0.5, told[:, -1:] > 0.5
        if self.held.shape[0] != told.shape[0]:
            self.held = torch.zeros(told.shape[0], 12, dtype=torch.float64)
            self.previous = torch.zeros(told.shape[0], 12, dtype=torch.float64)
            self.oldest = torch.zeros(told.shape[0], 12, dtype=torch.float64)
        previous = torch.where(acts, self.oldest, self.previous)
        self.oldest = torch.where(acts, self.held, self.oldest)
        self.previous = torch.where(first, torch.zeros_like(previous), previous)
        seen = told[:, : self.size].double()
        seen = torch.cat([seen[:, : self.before], self.previous, seen[:, self.after :]], dim=1)
        torque, action = self.torque(seen, told[:, self.size :])
        self.held = action
        return torque


class Hasty(Remembering):
    """Sees the action of this very step, as far as it knows it."""

    def forward(self, told: Tensor) -> Tensor:
        if self.held.shape[0] != told.shape[0]:
            self.held = torch.zeros(told.shape[0], 12, dtype=torch.float64)
        self.previous = self.held
        seen = told[:, : self.size].double()
        seen = torch.cat([seen[:, : self.before], self.previous, seen[:, self.after :]], dim=1)
        torque, action = self.torque(seen, told[:, self.size :])
        self.held = action
        return torque


# -- how a package is spoiled ----------------------------------------------------------------------


def _text_added(part: slice, change: str) -> Callable[[Path], object]:
    def spoil(made: Path) -> None:
        file = made / package.PREPROCESSOR
        text = AFTER.format(start=part.start, stop=part.stop, change=change)
        file.write_text(file.read_text() + text)

    return spoil


def _text_replaced(file: str, old: str, new: str) -> Callable[[Path], object]:
    def spoil(made: Path) -> None:
        text = (made / file).read_text()
        assert text.count(old) >= 1, (file, old)
        (made / file).write_text(text.replace(old, new))

    return spoil


def _module(
    actor: nn.Module, settings: Settings, kind: type[Remembering] = Remembering
) -> Callable[[Path], object]:
    def spoil(made: Path) -> None:
        script(kind(actor, settings).eval()).save(str(made / package.POLICY))

    return spoil
