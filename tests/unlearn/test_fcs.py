"""FCS by hand: the first walk, a whole round, the rates."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine import registry
from engine.data.loader import Splits
from engine.optim import SGD
from engine.runtime import Rng
from tests.unlearn.test_contract import SPEC, quick, toy_model, unlearn
from tests.unlearn.test_steps import SEED, close, examples

FCS = registry.get("fcs")
ZERO = {f"{phase}{name}": 0.0 for phase in ("", "forget_", "retain_") for name in ("lr", "momentum", "weight_decay")} | {"eta_min": 0.0, "epochs": 1}


class Released:
    """The three optimisers of the released code over one plain network."""

    def __init__(self, plain: nn.Module, erase: dict[str, float], blur: dict[str, float], repair: dict[str, float]) -> None:
        self.plain = plain
        self.opts = {name: torch.optim.SGD(plain.parameters(), **given) for name, given in (("erase", erase), ("blur", blur), ("repair", repair))}

    def step(self, name: str, loss: Tensor) -> None:
        self.opts[name].zero_grad()
        loss.backward()
        self.opts[name].step()

    def erase(self, x: Tensor) -> None:
        log_p = F.log_softmax(self.plain(x), 1)
        self.step("erase", F.kl_div(log_p, torch.full_like(log_p, 1 / log_p.shape[1]), reduction="batchmean"))

    def blur(self, forget: Tensor, retain: Tensor, heat: float) -> None:
        ours, theirs = self.plain(forget), self.plain(retain).detach()
        self.step("blur", (-1 * nn.LogSoftmax(dim=-1)(ours @ theirs.T / heat)).mean())

    def repair(self, x: Tensor, y: Tensor) -> None:
        self.step("repair", F.cross_entropy(self.plain(x), y))


def test_the_first_walk_pulls_forget_towards_uniform() -> None:
    before = toy_model(precision="fp64")
    released = Released(before[0].train(), {"lr": 0.02, "weight_decay": 0.1}, {"lr": 0.0}, {"lr": 0.0})
    released.erase(examples("forget")[0])
    for split in ("forget", "retain", "retain"):  # the round that follows moves statistics alone
        released.plain(examples(split)[0])
    close(unlearn(FCS, before, [SEED], [FCS.params.from_dict(ZERO | {"lr": 0.02, "weight_decay": 0.1, "batch": 1000}, "fcs")]), released.plain.state_dict())


def test_two_rounds_equal_the_released_code_with_three_momenta() -> None:
    before, data, rng = toy_model(precision="fp64"), Splits.of([SPEC], dtype=torch.float64), Rng([SEED])
    erase, blur, repair = ({"lr": lr, "momentum": m, "weight_decay": d} for lr, m, d in ((0.02, 0.9, 0.0), (0.03, 0.8, 1e-3), (0.01 * 64 / 64, 0.7, 1e-2)))
    released = Released(before[0].train(), erase, blur, repair)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(released.opts["blur"], T_max=2 * math.ceil(data.size("forget") / 64), eta_min=1e-3)
    for x, _ in data.batches("forget", 64, rng):
        released.erase(x[0])
    for _ in range(2):
        for (x_f, _), (x_r, _) in zip(data.batches("forget", 64, rng), data.batches("retain", 64, rng), strict=False):
            released.blur(x_f[0], x_r[0], 1.5)
            schedule.step()
        for x, y in data.batches("retain", 64, rng):
            released.repair(x[0], y[0])
    params = FCS.params.from_dict({"lr": 0.02, "momentum": 0.9, "weight_decay": 0.0, "forget_lr": 0.03, "forget_momentum": 0.8, "forget_weight_decay": 1e-3,
                                   "retain_lr": 0.01, "retain_momentum": 0.7, "retain_weight_decay": 1e-2, "eta_min": 1e-3, "temperature": 1.5,
                                   "epochs": 2, "batch": 64}, "fcs")
    close(unlearn(FCS, before, [SEED], [params]), released.plain.state_dict())


def test_the_retain_rate_grows_with_the_batch() -> None:
    before = toy_model(precision="fp64")
    released = Released(before[0].train(), {"lr": 0.0}, {"lr": 0.0}, {"lr": 0.01 * 1000 / 64})
    for split in ("forget", "forget", "retain"):
        released.plain(examples(split)[0])
    released.repair(*examples("retain"))
    close(unlearn(FCS, before, [SEED], [FCS.params.from_dict(ZERO | {"retain_lr": 0.01, "batch": 1000}, "fcs")]), released.plain.state_dict())


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_contrasts_rate_follows_each_replicas_own_length_step_by_step(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two replicas the first has `epochs` rounds and the second two; 17 forget examples are three steps of 8 a round."""
    rates: list[list[float]] = []

    def heard(opt: SGD, loss: Tensor) -> None:
        rates.append(opt.lr.tolist())

    monkeypatch.setattr("engine.unlearn.fcs.step", heard)
    params = [quick(FCS, epochs=e, forget_lr=0.1, eta_min=0.02, lr=0.5, retain_lr=0.25) for e in (epochs, 2)]
    unlearn(FCS, toy_model(2), [1, 2], params)
    steps = 3 * epochs
    mine = [first for first, _ in rates if first not in (0.5, 0.25 * 8 / 64)]
    assert mine[:steps] == pytest.approx([0.02 + 0.08 * (1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps)])
