"""EU-k by hand: what is made fresh and from what distribution, what stays, and the training after it."""

import pytest
import torch
from torch import Tensor, nn

from engine import registry
from engine.models.architecture import Architecture
from engine.models.parts import kaiming_uniform_fan_out, last_blocks, xavier_uniform
from engine.models.stack import Stack
from engine.runtime import Rng
from engine.unlearn.eu_k import refresh_statistics, refresh_weights
from tests.unlearn.test_cf_k import tethered
from tests.unlearn.test_contract import quick, toy_model, unlearn
from tests.unlearn.test_steps import close

EU_K, OFFICIAL = registry.get("eu_k"), registry.get("eu_k", "official")
LAST = ["conv3.weight", "bn3.weight", "bn3.bias", "fc.weight", "fc.bias"]


def fresh(before: Stack, k: list[float], seeds: list[int]) -> Stack:
    stack = before.copy()
    chosen = last_blocks(stack, torch.tensor(k))
    refresh_weights(stack, chosen, Rng(seeds).for_purpose("fresh").generators)
    refresh_statistics(stack, chosen)
    return stack


def test_the_last_blocks_are_fresh_and_the_others_untouched() -> None:
    before = toy_model(2)
    after = fresh(before, [1.0, 2.0], [5, 6])
    for r, untouched in ((0, ("conv1", "bn1", "conv2", "bn2")), (1, ("conv1", "bn1"))):
        for name, t in before.state_of(r).items():
            if name.startswith(untouched):
                assert torch.equal(after.state_of(r)[name], t), name
    for name, value in {"bn3.weight": 1, "bn3.bias": 0, "fc.bias": 0, "bn3.running_mean": 0, "bn3.running_var": 1}.items():
        assert bool((after.state()[name] == value).all()), name
    bound = (6 / (64 * 9)) ** 0.5
    for r in range(2):
        weight = after.params["conv3.weight"][r]
        assert 0.99 * bound < weight.abs().max() <= bound and not torch.equal(weight, before.params["conv3.weight"][r])


def test_fresh_weights_have_the_distributions_of_torchs_initialisers() -> None:
    for draw, shape, theirs in ((kaiming_uniform_fan_out, (64, 32, 3, 3), lambda w: nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu")),
                                (xavier_uniform, (300, 100), nn.init.xavier_uniform_)):
        mine, reference = draw(torch.Generator().manual_seed(1), torch.Size(shape)), torch.empty(shape)
        theirs(reference)
        assert mine.abs().max().item() == pytest.approx(reference.abs().max().item(), rel=1e-3)  # both within a thousandth of the bound
        assert mine.std().item() == pytest.approx(reference.std().item(), rel=0.03) and abs(mine.mean().item()) < 0.01 * mine.std().item() * 5


def test_steps_equal_the_formula_in_train_mode_with_the_pull_towards_fresh_weights() -> None:
    before = toy_model(precision="fp64")
    params = EU_K.params.from_dict({"lr": 0.05, "epochs": 2, "batch": 1000, "k": 1, "pull": 3.0}, "eu_k")
    after = unlearn(EU_K, before, [5], [params])
    close(after, tethered(fresh(before, [1.0], [5])[0].train(), LAST, steps=2, lr=0.05, pull=3.0))  # statistics included


def test_official_keeps_the_originals_statistics_under_fresh_weights() -> None:
    before = toy_model(precision="fp64")
    params = OFFICIAL.params.from_dict({"lr": 0.05, "epochs": 2, "batch": 1000, "k": 1, "pull": 3.0}, "eu_k")
    after = unlearn(OFFICIAL, before, [5], [params])
    start = before.copy()
    refresh_weights(start, last_blocks(start, torch.ones(1)), Rng([5]).for_purpose("fresh").generators)
    close(after, tethered(start[0].eval(), LAST, steps=2, lr=0.05, pull=3.0))
    assert all(torch.equal(t, after.buffers[n]) for n, t in before.buffers.items())


class Attentive(nn.Module):
    """One block with every kind of parameter that TinyViT has."""

    def __init__(self, channels: int, classes: int, side: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, stride=2)
        self.block = nn.Module()
        self.block.norm = nn.LayerNorm(4)
        self.block.mix = nn.Linear(4, 4)
        self.block.attention_biases = nn.Parameter(torch.randn(9))
        self.fc = nn.Linear(4, classes)
        nn.init.normal_(self.block.norm.weight)
        nn.init.normal_(self.block.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.block.mix(self.block.norm(self.stem(x).flatten(2).transpose(1, 2)))
        return self.fc((tokens * self.block.attention_biases.softmax(0).unsqueeze(1)).sum(1))


ATTENTIVE = Architecture("attentive", label="", build=Attentive, fused=None, doc="", stem=("stem",), blocks=(("block",),), head=("fc",))


def test_layer_norms_and_attention_biases_are_fresh_but_not_in_the_official_variant() -> None:
    before = Stack.build(ATTENTIVE, channels=1, classes=10, side=8, seeds=[0])
    still = EU_K.params.from_dict({"lr": 0.0, "epochs": 1, "batch": 1000}, "eu_k")
    corrected, official = unlearn(EU_K, before, [5], [still]).params, unlearn(OFFICIAL, before, [5], [still]).params
    assert bool((corrected["block.norm.weight"] == 1).all()) and bool((corrected["block.norm.bias"] == 0).all())
    assert bool((corrected["block.attention_biases"] == 0).all())
    for name in ("block.norm.weight", "block.norm.bias", "block.attention_biases", "stem.weight"):
        assert torch.equal(official[name], before.params[name]), name
    for name in ("block.mix.weight", "fc.weight"):
        assert not torch.equal(official[name], before.params[name]) and not torch.equal(corrected[name], before.params[name]), name
    moving = EU_K.params.from_dict({"lr": 0.1, "epochs": 1, "batch": 1000}, "eu_k")
    trained = unlearn(OFFICIAL, before, [5], [moving]).params
    assert torch.equal(trained["block.attention_biases"], before.params["block.attention_biases"]), "official never trains attention biases"
    assert not torch.equal(trained["block.norm.weight"], before.params["block.norm.weight"]), "official trains layer norms from where they were"


@pytest.mark.parametrize("m", [EU_K, OFFICIAL], ids=["corrected", "official"])
def test_a_replica_gets_the_same_bits_next_to_one_that_trains_more(m: registry.Method) -> None:
    stack, params = toy_model(3), [quick(m, batch=32, k=k) for k in (3, 1, 2)]
    together = unlearn(m, stack, [1, 2, 3], params)
    alone = unlearn(m, stack.like([stack.state_of(1)]), [2], params[1:2])
    assert all(torch.equal(t, together.state_of(1)[n]) for n, t in alone.state_of(0).items())
