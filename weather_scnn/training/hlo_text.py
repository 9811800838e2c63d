"""The text of a compiled program: which instructions run, how often, and what they read and write."""

import dataclasses
import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(
    r"^\s*(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>.*?) (?P<kind>[a-z][a-z0-9\-]*)\((?P<rest>.*)"
)
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\](\{[^}]*\})?")
# Spaces of a TPU besides the chip's memory (0) and the host's (5).
_FAST = re.compile(r"S\([1-46-9]\)")
_CALLED = re.compile(r"(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_LIMIT = re.compile(r" s32\[\]\S* constant\((\d+)\)")
_OPERAND = re.compile(r"%([\w.\-]+)")
_COMMENT = re.compile(r"/\*.*?\*/")

# Give another name to what is there, or say what runs; their bytes are those of what they hold.
_FREE = frozenset(
    "parameter constant get-tuple-element tuple bitcast while conditional call after-all partition-id replica-id iota "
    "opt-barrier domain add-dependency".split()
)
_SLICES = frozenset(("dynamic-slice", "slice", "gather"))


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation.

    Attributes:
        name, kind: as written.
        type: of the result, with layouts.
        operands: names of what it takes.
        line: all of it.
        root: whether it is the computation's result.
    """

    name: str
    kind: str
    type: str
    operands: tuple[str, ...]
    line: str
    root: bool

    @property
    def sizes(self) -> list[int]:
        """Bytes of the arrays of the result."""
        return [size for size, _ in arrays_of(self.type)]

    @property
    def memory_sizes(self) -> list[int]:
        """The same, 0 for those in a chip's own fast memory."""
        return [0 if fast else size for size, fast in arrays_of(self.type)]


def arrays_of(text: str) -> list[tuple[int, bool]]:
    """(bytes, whether in fast memory) of the arrays of a type such as (f32[2,3]{1,0:T(8,128)S(1)}, s32[])."""
    found = []
    for kind, shape, layout in _ARRAY.findall(text):
        bits = int(re.findall(r"\d+", kind)[0]) if kind != "pred" else 8
        size = math.prod(int(size) for size in shape.split(",") if size) * bits // 8
        found.append((size, bool(_FAST.search(layout))))
    return found


class Program:
    """The computations of a compiled program, by name.

    Args:
        text: `compiled.as_text()`.
    """

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            begins = _COMPUTATION.match(line)
            if begins:
                current = self.computations.setdefault(begins[1], {})
                self.entry = begins[1] if line.startswith("ENTRY") else self.entry
                continue
            found = _INSTRUCTION.match(_COMMENT.sub("", line))
            if found:
                arguments = found["rest"].split(")", 1)[0]
                current[found["name"]] = Instruction(
                    found["name"],
                    found["kind"],
                    found["type"],
                    tuple(_OPERAND.findall(arguments)),
                    line,
                    bool(found["root"]),
                )

    def runs(self, *, into_fusions: bool = False) -> Iterator[tuple[Instruction, dict[str, Instruction], int]]:
        """Instructions with their computation and how often they run; those of loops as often as the loop does."""
        yield from self._runs(self.entry, 1, into_fusions)

    def _runs(self, name: str, times: int, fusions: bool) -> Iterator[tuple[Instruction, dict[str, Instruction], int]]:
        computation = self.computations.get(name, {})
        for instruction in computation.values():
            yield instruction, computation, times
            if instruction.kind in ("while", "call", "conditional") or (
                fusions and instruction.kind in ("fusion", "async-start")
            ):
                again = times * (self.trips(instruction) if instruction.kind == "while" else 1)
                for inner in called(instruction):
                    yield from self._runs(inner, again, fusions)

    def trips(self, loop: Instruction) -> int:
        """How often a loop runs: as the compiler says, or the number that its condition compares with; else 1."""
        known = _TRIPS.search(loop.line)
        if known:
            return int(known[1])
        condition = _CONDITION.search(loop.line)
        limits = [
            int(limit[1])
            for one in (self.computations.get(condition[1], {}) if condition else {}).values()
            if (limit := _LIMIT.search(one.line))
        ]
        return limits[0] if len(limits) == 1 else 1

    def bytes_accessed(self) -> int:
        """Bytes that one run reads from and writes to memory, after fusion.

        What lies in a chip's own fast memory is not counted, nor what a slice leaves out, nor the rest of an array
        that is updated in place.
        """
        return sum(times * self._traffic(one, within) for one, within, times in self.runs())

    def _traffic(self, one: Instruction, within: dict[str, Instruction]) -> int:
        if one.kind in _FREE or one.kind.endswith("-done") or 'custom_call_target="AllocateBuffer"' in one.line:
            return 0
        taken = [within[name] for name in one.operands if name in within]
        if one.kind in ("copy-start", "slice-start"):
            # (destination, source, …), or of a slice ((source), destination, …).
            there, here = one.memory_sizes[:2] if one.kind == "copy-start" else one.memory_sizes[1::-1]
            moved = one.sizes[0 if one.kind == "copy-start" else 1]
            return there + (moved if here else 0)
        if one.kind in _SLICES:
            return sum(one.memory_sizes) + (sum(one.sizes) if taken and any(taken[0].memory_sizes) else 0)
        if one.kind == "dynamic-update-slice":
            return 2 * (sum(taken[1].sizes) if any(one.memory_sizes) else 0)
        if one.kind == "fusion":
            return self._fusion_traffic(one, taken)
        return sum(one.memory_sizes) + sum(size for other in taken for size in other.memory_sizes)

    def _fusion_traffic(self, one: Instruction, taken: list[Instruction]) -> int:
        inner = self.computations[called(one)[0]]
        total = sum(min(sum(other.memory_sizes), self._read(inner, place)) for place, other in enumerate(taken))
        root = next(each for each in inner.values() if each.root)
        results = [inner[name] for name in root.operands] if root.kind == "tuple" else [root]
        for size, result in zip(one.memory_sizes, results):
            while result.kind == "bitcast":
                result = inner[result.operands[0]]
            updates = result.kind == "dynamic-update-slice"
            total += min(size, sum(inner[result.operands[1]].sizes)) if updates else size
        return total

    def _read(self, inner: dict[str, Instruction], place: int) -> int:
        """Bytes that a fusion reads of the parameter at a place."""
        for each in inner.values():
            if each.kind == "parameter" and each.line.split("parameter(")[1].startswith(f"{place})"):
                return self._used(each, inner)
        return 0

    def _used(self, given: Instruction, inner: dict[str, Instruction]) -> int:
        """Bytes of a value that its users within a fusion read."""
        total = 0
        for user in inner.values():
            if given.name not in user.operands:
                continue
            if user.kind in _SLICES and user.operands[0] == given.name:
                total += sum(user.sizes)
            elif user.kind == "bitcast":
                total += self._used(user, inner)
            elif user.kind == "fusion":
                total += self._read(self.computations[called(user)[0]], user.operands.index(given.name))
            elif not (user.kind == "dynamic-update-slice" and user.operands[0] == given.name):
                return sum(given.sizes)
        return total


def called(instruction: Instruction) -> list[str]:
    """Names of the computations that an instruction runs."""
    found = _CALLED.findall(instruction.line)
    for branches in _BRANCHES.findall(instruction.line):
        found += [branch.strip().lstrip("%") for branch in branches.split(",")]
    return found
