"""The functions that graphc has of torch's first tier take torch's parameters.

tests/data/torch_api_tier1.txt holds what torch 2.13 offers, one a line: module, name, and the
parameters of each overload.
"""

import ast
import inspect
from pathlib import Path

import pytest

import graphc as gc
import graphc.nn.functional
from graphc.frontends.function import Function

LIST = Path(__file__).parent / "data" / "torch_api_tier1.txt"
WHERE = {"torch": gc, "torch.Tensor": gc.Tensor, "torch.nn.functional": gc.nn.functional}

# Differences that are meant, with the reason.
EXCEPTIONS = {
    "torch.compile": "name, isolate_recompiles and shapes_spec are not taken",
    "torch.einsum": "takes the equation by its name",
    "torch.Tensor.to": "takes its overloads as any arguments",
    "torch.Tensor.cuda": "there is no memory format on a device",
    "torch.Tensor.requires_grad_": "torch's documentation says requires_grad, its stub mode",
    "torch.Tensor.split": "both names of the sizes are taken",
    "torch.tensor": "as documented: all but the data are by keyword only",
    "torch.norm": "out is by keyword only",
    "torch.numel": "as documented: input, not self",
    **{
        f"torch.nn.functional.{name}": "_stacklevel is by keyword only"
        for name in ("softmax", "log_softmax", "softmin")
    },
    **{
        f"torch.{name}": "overloads with and without batch sizes, told apart by their arguments"
        for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    },
}


class Parameters:
    """Names and defaults of the positional parameters and of the keywords; and *args."""

    def __init__(self, positional, keywords, variadic):
        self.positional, self.keywords, self.variadic = positional, keywords, variadic

    @classmethod
    def of_text(cls, text):
        found = ast.parse(f"def f{text.replace('=...', '=None')}: pass").body[0].args
        defaults = [None] * (len(found.args) - len(found.defaults)) + found.defaults
        positional = [(a.arg, _value(d)) for a, d in zip(found.args, defaults, strict=True)]
        keywords = {
            a.arg: _value(d) for a, d in zip(found.kwonlyargs, found.kw_defaults, strict=True)
        }
        return cls(positional, keywords, found.vararg is not None)

    @classmethod
    def of(cls, function, is_method):
        if isinstance(function, Function):
            function = function.body
        found = list(inspect.signature(function).parameters.values())[1 if is_method else 0 :]
        kinds = {kind: [p for p in found if p.kind is kind] for kind in _KINDS}
        positional = [(p.name, _default(p)) for p in kinds[_KINDS[0]]]
        keywords = {p.name: _default(p) for p in kinds[_KINDS[1]]}
        return cls(positional, keywords, bool(kinds[_KINDS[2]]))

    def accepts(self, other):
        """Whether a call that `other` (torch's) allows is allowed here, with the same meaning."""
        mine = dict(self.positional) | self.keywords
        for (name, default), own in zip(other.positional, self.positional, strict=False):
            if name != own[0] or not _agree(default, own[1]):
                return False
        rest = other.positional[len(self.positional) :]
        if rest and not (self.variadic and all(name in self.keywords for name, _ in rest)):
            return False
        for name, default in self.positional[len(other.positional) :]:
            if default is MISSING and name not in other.keywords:
                return False
        wanted = {k: v for k, v in other.keywords.items() if k != "out"}
        return all(name in mine and _agree(d, mine[name]) for name, d in wanted.items()) and (
            not other.variadic or self.variadic
        )


MISSING = object()
UNKNOWN = object()
_KINDS = (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
)


def _value(default):
    if default is None:
        return MISSING
    try:
        return ast.literal_eval(default)
    except ValueError:
        return UNKNOWN  # torch.preserve_format and its like


def _default(parameter):
    return MISSING if parameter.default is inspect.Parameter.empty else parameter.default


def _agree(theirs, own):
    """Their default may be missing where ours has one, never the other way round."""
    if theirs is MISSING:
        return True
    return own is not MISSING and (theirs is UNKNOWN or theirs is None or theirs == own)


def rows():
    for line in LIST.read_text().splitlines():
        if not line.startswith("#"):
            yield line.split("\t")


def implemented():
    for module, name, parameters in rows():
        function = getattr(WHERE[module], name, None)
        is_operator = name.startswith("__")  # its names matter to nobody
        if callable(function) and not inspect.isclass(function) and not is_operator:
            yield module, name, parameters, function


@pytest.mark.parametrize("module", WHERE)
def test_parameters_are_torchs(module):
    wrong = []
    for where, name, texts, function in implemented():
        if where != module or f"{where}.{name}" in EXCEPTIONS:
            continue
        own = Parameters.of(function, where == "torch.Tensor")
        overloads = [Parameters.of_text(text) for text in texts.split(" | ")]
        if not any(own.accepts(overload) for overload in overloads):
            wrong.append(f"{where}.{name}{texts}: {own.positional} {own.keywords}")
    assert not wrong, "\n".join(wrong)


def test_exceptions_are_needed():
    named = {f"{where}.{name}": (texts, f) for where, name, texts, f in implemented()}
    for name in EXCEPTIONS:
        texts, function = named[name]
        own = Parameters.of(function, name.startswith("torch.Tensor."))
        overloads = [Parameters.of_text(text) for text in texts.split(" | ")]
        assert not any(own.accepts(overload) for overload in overloads), name


def test_how_much_there_is():
    """A floor under what is implemented; docs/status.md says what is missing."""
    have = {name: 0 for name in WHERE}
    for where, *_ in implemented():
        have[where] += 1
    assert have["torch"] >= 420, have
    assert have["torch.Tensor"] >= 440, have
    assert have["torch.nn.functional"] >= 125, have


def test_in_place_methods_show_their_parameters():
    assert str(inspect.signature(gc.Tensor.addcmul_)) == "(input, tensor1, tensor2, *, value=1)"
