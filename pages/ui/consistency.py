"""Does it hold elsewhere, in words and as tables. Pure functions over places; every number in a sentence is one of theirs."""

from collections.abc import Mapping, Sequence

import pandas as pd

from engine.store import queries, ranks, standings
from engine.store.ranks import Order
from engine.store.standings import Key
from pages.ui import formats
from pages.ui.formats import counted, listed
from pages.ui.places import Place, where
from pages.ui.theme import Look, look

METRICS = ("retention_deviation", "indiscernibility", "balanced_accuracy", "mia_test", "test_retention", "rte")
_FEW = 4  # names in a sentence


def answer(found: Sequence[Place], metric: str, looks: Mapping[str, Look]) -> str:
    """Whether the order of methods is the same from cell to cell, and what so many cells cannot say."""
    label = formats.METRICS[metric].label
    trusted = [place for place in found if not place.doubt]
    doubted = [place for place in found if place.doubt]
    out = (f"{where([place.plain for place in doubted])} {'has' if len(doubted) == 1 else 'have'} no say: "
           f"{listed(list(dict.fromkeys(place.doubt for place in doubted)))}." if doubted else "")
    if not trusted:
        return f"No cell has {label} {'that may be believed' if found else 'yet'}, so nothing can be said. {out}".rstrip()
    if len(trusted) == 1:
        return (f"**One cell has {label} so far: {trusted[0].plain}. Whether anything holds elsewhere cannot be said.** What can be said is how far "
                f"it holds for other initialisations there. {out}").rstrip()
    keys = [entry.key for entry in trusted[0].common.entries]
    if len(keys) < 2:
        return (f"{counted(len(trusted), 'cell')} have {label}, but {'only one method is' if keys else 'no method is'} in all of them, so there is "
                f"no order to compare. {out}").rstrip()
    pairs = _pairs(ranks.order([place.common for place in trusted], keys), len(trusted), label, looks)
    return " ".join(filter(None, (pairs, _best(trusted, keys, looks), out)))


def _pairs(order: Order, cells: int, label: str, looks: Mapping[str, Look]) -> str:
    where = "both cells" if cells == 2 else f"two or more of {cells} cells"
    told = len(order.kept) + len(order.turned)
    once = f"; {counted(order.once, 'pair')} {'is' if order.once == 1 else 'are'} told apart in one" if order.once else ""
    if not told:
        return f"By {label} no two methods are told apart in {where}{once}: nothing contradicts an order, and nothing confirms one."
    kept = f"{'all' if told == len(order.kept) > 1 else len(order.kept)} {'keeps its' if len(order.kept) == 1 else 'keep their'} order"
    names = listed([f"{_titles([one], looks)} against {_titles([other], looks)}" for one, other in order.turned[:_FEW]])
    names += " and others" if len(order.turned) > _FEW else ""
    turned = f", **{len(order.turned)} {'turns' if len(order.turned) == 1 else 'turn'} round** ({names})" if order.turned else ""
    return (f"By {label} {told} of {counted(order.pairs, 'pair')} of methods {'is' if told == 1 else 'are'} told apart in {where}: "
            f"**{kept}**{turned}{once}.")


def _best(trusted: Sequence[Place], keys: Sequence[Key], looks: Mapping[str, Look]) -> str:
    """Who is among the best in each of the cells that tell methods apart at all."""
    telling, silent = [place for place in trusted if place.tells], [place for place in trusted if not place.tells]
    mute = f"In {where([place.plain for place in silent])} no two methods can be told apart." if silent else ""
    if len(telling) < 2:
        return mute
    often = {key: sum(entry.tied for place in telling if (entry := place.common.of(key))) for key in keys}
    most = max(often.values())
    first = [key for key in keys if often[key] == most]
    shown, verb = f"**{_titles(first[:_FEW], looks)}{' and others' if len(first) > _FEW else ''}**", "is" if len(first) == 1 else "are"
    every = ("both" if len(telling) == 2 else f"all {len(telling)}") + (" that tell methods apart" if silent else "")
    return (f"{shown} {verb} among the best in {every}. {mute}" if most == len(telling) else
            f"No method is among the best in {every}: {shown} {verb} in {most}. {mute}").rstrip()


def reach(cells: int) -> str:
    """What holding in all of so many cells shows at most: the lower end of an exact one-sided 95 % interval for a share."""
    every = "both" if cells == 2 else f"all {cells}"
    return (f"The intervals are of single cells. Even if these {cells} had been drawn at random, which they were not, holding in {every} would show "
            f"no more than that it holds in at least {formats.number(0.05 ** (1 / cells), 'share')} of all such cells, at 95{formats.THIN}%.")


def sizes(found: Sequence[Place], metric: str, keys: Sequence[Key], looks: Mapping[str, Look]) -> str:
    """Who does better or worse the more is to be forgotten: between the smallest and the largest share, where the intervals do not touch."""
    first, last = min(found, key=_share), max(found, key=_share)
    worse: list[Key] = []
    better: list[Key] = []
    both = [(key, one, other) for key in keys if (one := first.table.of(key)) and (other := last.table.of(key))]
    for key, one, other in both:
        if one.hi < other.lo or other.hi < one.lo:
            (worse if _away(metric, other.mean) > _away(metric, one.mean) else better).append(key)
    told = [f"**{_titles(who, looks)}** {'gets' if len(who) == 1 else 'get'} {way}" for who, way in ((worse, "worse"), (better, "better")) if who]
    rest = len(both) - len(worse) - len(better)
    tail = f"for {'the other ' if told else ''}{counted(rest, 'method')} no change can be told" if rest else ""
    doubts = "".join(f" Not settled in {place.plain}: {place.doubt}." for place in (first, last) if place.doubt)
    if not both:
        return "No method has been run with both the smallest and the largest share."
    change = f"From {100 * _share(first):g}{formats.THIN}% to {100 * _share(last):g}{formats.THIN}% forgotten"
    return f"{change}, {'; '.join(filter(None, (listed(told), tail)))}.{doubts}"


def over_splits(fixed: Place, varied: Place, keys: Sequence[Key], looks: Mapping[str, Look]) -> str:
    """How much more varies with the split than with the initialisation, and whose group depends on it."""
    metric = fixed.table.metric
    both = [key for key in keys if fixed.table.of(key) and varied.table.of(key)]
    ratio, lo, hi = ranks.wider(fixed.cell, varied.cell, metric, both) if metric in queries.SEED_METRICS else (float("nan"),) * 3
    if pd.isna(ratio):
        first = "How much more varies with the split than with the initialisation cannot be told: both studies need three or more seeds of it."
    else:
        size = "wider" if lo > 1 else "narrower" if hi < 1 else "about as wide, as far as so few seeds can tell"
        first = (f"Where split and forget set vary too, seeds are spread **{size}**: {ratio:.1f} times as far (95{formats.THIN}%: {lo:.1f} to "
                 f"{hi:.1f}; median over {counted(len(both), 'method')}).")
    groups = {key: ((one := fixed.table.of(key)) and one.group, (other := varied.table.of(key)) and other.group) for key in both}
    known = {key: pair for key, pair in groups.items() if all(pair)}
    if not known:
        return first
    within = [sum(pair[at] == "G1" for pair in known.values()) for at in (0, 1)]
    moved = [key for key, pair in known.items() if (pair[0] == "G1") != (pair[1] == "G1")]
    changed = f"; {_titles(moved, looks) if len(moved) <= _FEW else len(moved)} {'changes' if len(moved) == 1 else 'change'} sides" if moved else ""
    return (f"{first} Within retraining's noise {'is' if within[0] == 1 else 'are'} {within[0]} of {len(known)} on the one split, {within[1]} on "
            f"varied ones{changed}.")


def frame(found: Sequence[Place]) -> pd.DataFrame:
    """Every number of the heat-maps, one row a cell and method. values: one a seed."""
    rows = [{"dataset": place.cell.dataset, "model": place.cell.model, "forget_share": place.cell.forget_share, "study": place.cell.study,
             "metric": place.table.metric, "varies": place.cell.varies, "not_settled": place.grey.get(entry.key, ""),
             **{name: value for name, value in vars(entry).items() if name != "values"},
             "rank_in_common": shared.rank if (shared := place.common.of(entry.key)) else float("nan"),
             "values": " ".join(f"{value:.6g}" for value in entry.values)} for place in found for entry in place.table.entries]
    return pd.DataFrame(rows)


def texts(found: Sequence[Place], keys: Sequence[Key], looks: Mapping[str, Look], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The same as people read it: methods by cells. names: of studies of one cell, in the place of its own."""
    kind = formats.METRICS[found[0].table.metric].kind

    def text(place: Place, key: Key) -> str:
        entry, shared = place.table.of(key), place.common.of(key)
        if entry is None:
            return formats.MISSING
        value = "failed" if entry.group == "F" else formats.with_interval(entry.mean, entry.lo, entry.hi, kind)
        return f"{value}, rank {formats.rank(shared.rank)}" if shared and not names and len(found) > 1 else value

    return pd.DataFrame([{"Method": _titles([key], looks), **{names[place.cell.study] if names else place.plain: text(place, key) for place in found}}
                         for key in keys])


def _away(metric: str, value: float) -> float:
    best = standings.BEST[metric]
    return -value if best == float("inf") else abs(value - best)


def _share(place: Place) -> float:
    return place.cell.forget_share


def _titles(keys: Sequence[Key], looks: Mapping[str, Look]) -> str:
    return listed([look(looks, method).title(variant) for method, variant in keys])
