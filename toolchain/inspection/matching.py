"""Which operation of one model is which of another, by what they do and where they stand, and not by name alone.

Colours are refined as Weisfeiler and Leman do it: an operation's from its operator and what it reads, back to the
inputs; and from who reads it, on to the outputs. What is unlike anything else in both models is matched first; from
there matches spread along the edges; equal weights, equal surroundings, then names decide what is left.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from hashlib import sha256

from toolchain.inspection import digests
from toolchain.inspection.operations import Operation, Operations, Source, weights_read

_ROUNDS = 3
_CLASSES = {"Gemm": "product", "MatMul": "product"}
_RECTIFIERS = ("Relu", "Clip")
_FUSED = ("FusedConv", "FusedGemm")
_KEYS = Callable[[int], Hashable]
_STEPS = (
    ("exact", True), ("weights", False), ("whole", False), ("whole_named", False), ("whole", True), ("above", False),
    ("below", False), ("near", False), ("named", False), ("nearest", True),
)  # fmt: skip
"""The keys to match by, the surest first, and whether as many alike on both sides are matched in their order."""


class Matching:
    """``pairs`` are positions in the operations of ``a`` and of ``b``; ``left`` and ``right`` those without a match.

    ``rectified`` names, for each model, operations whose Relu or Clip the other's rounding does, and that Relu or Clip.
    """

    def __init__(self, a: Operations, b: Operations) -> None:
        self.a, self.b = a, b
        self.of: dict[int, int] = {}
        self.rectified: tuple[dict[int, int], dict[int, int]] = {}, {}
        self._back: dict[int, int] = {}
        one, two = _Colours(a), _Colours(b)
        for name, ordered in _STEPS:
            self._unique(getattr(one, name), getattr(two, name), ordered=ordered)
            self._spread()
        self.rectified = (dict(_done_by_rounding(a, self.of, b)), dict(_done_by_rounding(b, self._back, a)))

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return sorted(self.of.items())

    @property
    def left(self) -> list[int]:
        return [each.index for each in self.a.all if each.index not in self.of and not self._is_rounding(each, 0)]

    @property
    def right(self) -> list[int]:
        return [each.index for each in self.b.all if each.index not in self._back and not self._is_rounding(each, 1)]

    def twin(self, left: Source) -> tuple[int, int] | None:
        """(Operation of ``b``, which of its outputs) that stands for what makes ``left`` in ``a``; None without."""
        maker = None if left.maker is None else self._computing(left.maker, 0)
        return None if maker is None or maker not in self.of else (self.of[maker], left.output)

    def made_by(self, right: Source) -> tuple[int, int] | None:
        """The same of a source in ``b``."""
        maker = None if right.maker is None else self._computing(right.maker, 1)
        return None if maker is None or maker not in self._back else (maker, right.output)

    def _computing(self, maker: int, side: int) -> int:
        """The operation itself, or the one before a Relu or Clip that the other's rounding does."""
        return next((before for before, after in self.rectified[side].items() if after == maker), maker)

    def _is_rounding(self, operation: Operation, side: int) -> bool:
        return operation.index in self.rectified[side].values()

    def _unique(self, one: _KEYS, two: _KEYS, *, ordered: bool) -> None:
        """Match those whose key nobody else has; ``ordered`` those too of which both models have as many."""
        groups: defaultdict[Hashable, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for index in self.left:
            groups[one(index)][0].append(index)
        for index in self.right:
            groups[two(index)][1].append(index)
        for key, (left, right) in groups.items():
            if key is not None and len(left) == len(right) and (len(left) == 1 or ordered):
                for pair in zip(left, right, strict=True):
                    self._match(*pair)

    def _match(self, left: int, right: int) -> None:
        self.of[left], self._back[right] = right, left

    def _spread(self) -> None:
        """From each match to what it reads in the same place, and to what reads it in the same way."""
        pending = list(self.of.items())
        while pending:
            left, right = pending.pop()
            for one, two in (*self._read(left, right), *self._reading(left, right)):
                if one not in self.of and two not in self._back and self._alike(one, two):
                    self._match(one, two)
                    pending.append((one, two))

    def _alike(self, one: int, two: int) -> bool:
        return _class(self.a.all[one]) == _class(self.b.all[two])

    def _read(self, left: int, right: int) -> Iterator[tuple[int, int]]:
        a, b = self.a.all[left], self.b.all[right]
        if commutes(a):
            one, two = ([each for each in side.sources if each is not None] for side in (a, b))
            of_a, of_b = _by_class(self.a, one), _by_class(self.b, two)
            yield from (
                (of_a[kind][0], of_b[kind][0]) for kind in of_a if len(of_a[kind]) == len(of_b.get(kind, [])) == 1
            )
            return
        for source, other in zip(a.sources, b.sources, strict=False):
            if source is not None and other is not None and source.maker is not None and other.maker is not None:
                yield source.maker, other.maker

    def _reading(self, left: int, right: int) -> Iterator[tuple[int, int]]:
        """Readers of whose kind, and place, there is one that is not matched yet on each side."""
        one, two = (
            _by_use((index, place, side.all[index]) for index, place in side.all[start].readers if index not in done)
            for side, start, done in ((self.a, left, self.of), (self.b, right, self._back))
        )
        for use in one.keys() & two.keys():
            if len(one[use]) == len(two[use]) == 1:
                yield one[use][0], two[use][0]


def _done_by_rounding(one: Operations, of: dict[int, int], two: Operations) -> Iterator[tuple[int, int]]:
    """(Operation, the Relu or Clip after it), both in ``one``, where ``two`` has a Q with the same end instead."""
    for operation in one.all:
        before = operation.sources[0] if operation.sources else None
        if operation.kind not in _RECTIFIERS or operation.index in of or before is None or before.maker not in of:
            continue
        if two.all[of[before.maker]].quantizer is not None or two.all[of[before.maker]].node.op_type in _FUSED:
            yield before.maker, operation.index


def _by_use(readers: Iterable[tuple[int, int, Operation]]) -> dict[tuple[str, int], list[int]]:
    found: dict[tuple[str, int], list[int]] = {}
    for index, place, operation in readers:
        found.setdefault((_class(operation), place), []).append(index)
    return found


def _by_class(model: Operations, sources: Iterable[Source]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for source in sources:
        if source.maker is not None:
            found.setdefault(_class(model.all[source.maker]), []).append(source.maker)
    return found


def _class(operation: Operation) -> str:
    return _CLASSES.get(operation.kind, operation.kind)


class _Colours:
    """Several keys of the operations of a model; those of two models are alike where the operations are."""

    def __init__(self, model: Operations) -> None:
        self._model = model
        self._digests = [self._weights(operation) for operation in model.all]
        self._up = self._upwards(exact=False)
        self._exact = self._upwards(exact=True)
        self._down = self._downwards()
        rounds = [[_hash(_class(each), *(self._shapes(each))) for each in model.all]]
        for _ in range(_ROUNDS):
            rounds.append(self._refined(rounds[-1]))
        self._near, self._nearest = rounds[-1], rounds[1]

    def exact(self, index: int) -> Hashable:
        """All that it is computed from, weights and attributes included, and how it is used."""
        return self._exact[index], self._down[index]

    def whole(self, index: int) -> Hashable:
        """The same without weights and attributes."""
        return self._up[index], self._down[index]

    def whole_named(self, index: int) -> Hashable:
        return self._up[index], self._down[index], self._model.all[index].label

    def named(self, index: int) -> Hashable:
        """Operator and name, or first output."""
        return _class(self._model.all[index]), self._model.all[index].label

    def above(self, index: int) -> Hashable:
        return self._up[index]

    def below(self, index: int) -> Hashable:
        return self._down[index]

    def weights(self, index: int) -> Hashable:
        """Its operator and its weights, None without any."""
        digest = self._digests[index]
        return (_class(self._model.all[index]), digest) if digest else None

    def near(self, index: int) -> Hashable:
        """What stands around it, some edges far."""
        return self._near[index]

    def nearest(self, index: int) -> Hashable:
        return self._nearest[index]

    def _upwards(self, *, exact: bool) -> list[str]:
        found: list[str] = []
        for operation in self._model.all:
            parts: list[object] = [_class(operation)]
            if exact:
                parts += [self._digests[operation.index], sorted(operation.attributes.items(), key=str)]
            for source in operation.sources:
                if source is None or (source.weight and not exact):
                    continue
                if source.maker is not None and source.maker < len(found):
                    parts.append((found[source.maker], source.output))
                else:
                    parts.append(("given", source.given))
            found.append(_hash(*parts))
        return found

    def _downwards(self) -> list[str]:
        found = [""] * len(self._model.all)
        outputs: dict[int, list[int]] = {}
        for place, name in enumerate(self._model.outputs):
            source = self._model.origin(name)
            if source.maker is not None:
                outputs.setdefault(source.maker, []).append(place)
        for operation in reversed(self._model.all):
            used = sorted((_place(self._model.all[index], place), found[index]) for index, place in operation.readers)
            found[operation.index] = _hash(_class(operation), used, outputs.get(operation.index, []))
        return found

    def _refined(self, before: list[str]) -> list[str]:
        found = []
        for operation in self._model.all:
            read = [
                "given" if source.maker is None else before[source.maker]
                for source in operation.sources
                if source is not None and not source.weight
            ]
            used = sorted((before[index], place) for index, place in operation.readers)
            found.append(_hash(before[operation.index], read, used))
        return found

    def _weights(self, operation: Operation) -> str:
        """Of the values as they lie in the file; shapes and axes are no weights."""
        held = [self._model.base(source.tensor) for _, source in weights_read(operation)]
        large = [tensor for tensor in held if tensor is not None and sum(tensor.dims) > 1]
        return _hash(*(digests.of_tensor(tensor) for tensor in large)) if large else ""

    def _shapes(self, operation: Operation) -> list[tuple[int, ...]]:
        held = [self._model.base(source.tensor) for _, source in weights_read(operation)]
        return [tuple(tensor.dims) for tensor in held if tensor is not None]


def commutes(operation: Operation) -> bool:
    """Whether it does not matter which input is which."""
    return operation.kind in ("Add", "Mul", "Max", "Min", "Sum", "And", "Or", "Xor", "Equal")


def _place(operation: Operation, place: int) -> int:
    return 0 if commutes(operation) else place


def _hash(*parts: object) -> str:
    return sha256(repr(parts).encode()).hexdigest()[:24]
