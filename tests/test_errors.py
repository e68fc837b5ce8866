"""What a user sees of common mistakes: what is wrong, the own source line, what to do."""

import re
import runpy
import textwrap
import traceback

import pytest

import graphc as gc

# A program, and what its traceback ends with.
CASES = {
    "matmul": (
        """
        x = torch.ones(32, 64)
        y = x @ torch.ones(128, 10)
        """,
        """
        graphc.ShapeError: mat1 and mat2 shapes cannot be multiplied (32x64 and 128x10): cannot \
contract f32[32, 64] with f32[128, 10]
          train.py:4: y = x @ torch.ones(128, 10)
        """,
    ),
    "linear in a module": (
        """
        class GPT(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.Sequential(nn.Linear(8, 64), nn.ReLU())
                self.head = nn.Linear(128, 10)

            def forward(self, x):
                return self.head(self.blocks(x))

        GPT()(torch.ones(32, 8))
        """,
        """
        graphc.ShapeError: cannot contract f32[32, 64] with f32[10, 128]: 64 and 128 differ
          train.py:10: return self.head(self.blocks(x))      in GPT.head (Linear)
          The input has 64 features, the layer takes 128.
        """,
    ),
    "a layer of a list": (
        """
        model = nn.Sequential(nn.Sequential(nn.Linear(8, 4)), nn.Linear(8, 2))
        model(torch.ones(1, 8))
        """,
        """
        graphc.ShapeError: cannot contract f32[1, 4] with f32[2, 8]: 4 and 8 differ
          train.py:4: model(torch.ones(1, 8))      in Sequential.1 (Linear)
          The input has 4 features, the layer takes 8.
        """,
    ),
    "broadcasting": (
        """
        total = torch.ones(3, 4) + torch.ones(3)
        """,
        """
        graphc.ShapeError: The size of tensor a (4) must match the size of tensor b (3) at \
non-singleton dimension 1
          train.py:3: total = torch.ones(3, 4) + torch.ones(3)
        """,
    ),
    "element types": (
        """
        y = torch.ones(2, 2) @ torch.ones(2, 2, dtype=torch.float64)
        """,
        """
        graphc.DTypeError: expected m1 and m2 to have the same dtype, but got: float != double
          train.py:3: y = torch.ones(2, 2) @ torch.ones(2, 2, dtype=torch.float64)
          matmul of f32[2, 2] and f64[2, 2]: convert one with .to(dtype).
        """,
    ),
    "an index, when it is computed": (
        """
        x, index = torch.arange(4), torch.tensor([1, 9])
        y = x[index]
        z = y + 1
        z.tolist()
        """,
        """
        graphc.BoundsError: index 9 is out of bounds for dimension 0 with size 4 in gather
          train.py:4: y = x[index]
        """,
    ),
    "a word that is not in the table": (
        """
        model = nn.Sequential(nn.Embedding(3, 2))
        model(torch.tensor([3])).sum().item()
        """,
        """
        graphc.BoundsError: index 3 is out of bounds for dimension 0 with size 3 in gather
          train.py:4: model(torch.tensor([3])).sum().item()      in Sequential.0
        """,
    ),
    "in place on a leaf": (
        """
        w = torch.ones(3, requires_grad=True)
        w += 1
        """,
        """
        graphc.WriteError: a leaf Variable that requires grad is being used in an in-place \
operation.
          train.py:4: w += 1
          Write to it within torch.no_grad(), or make a new tensor.
        """,
    ),
    "backward twice": (
        """
        w = torch.ones(3, requires_grad=True)
        loss = (w * w).sum()
        print(loss.item())
        loss.backward()
        loss.backward()
        """,
        """
        graphc.FreedError: Trying to backward through the graph a second time (or \
directly access saved tensors after they have already been freed). Saved intermediate values of \
the graph are freed when you call .backward() or autograd.grad().
          train.py:7: loss.backward()
          Specify retain_graph=True if you need to backward through the graph a second time.
        """,
    ),
    "item of many": (
        """
        print(torch.ones(2, 3).item())
        """,
        """
        graphc.ShapeError: a Tensor with 6 elements cannot be converted to Scalar
          train.py:3: print(torch.ones(2, 3).item())
          It is f32[2, 3]; tolist() gives all elements.
        """,
    ),
    "a file that is none": (
        """
        state = torch.load(__file__)
        """,
        """
        graphc.FormatError: this is not a torch file: it does not begin as a zip archive does
          train.py:3: state = torch.load(__file__)
          Files of the time before torch 0.4 (tar archives) have to be converted with torch.
        """,
    ),
    "targets of the wrong size": (
        """
        loss = nn.functional.cross_entropy(torch.ones(3, 5), torch.tensor([1, 2]))
        """,
        """
        graphc.ShapeError: nll_loss of f32[3, 5] with targets i64[2]: the target must have the \
shape of the input without its class dimension
          train.py:3: loss = nn.functional.cross_entropy(torch.ones(3, 5), torch.tensor([1, 2]))
          A target of class numbers has shape [N], the input [N, C].
        """,
    ),
    "no such device": (
        """
        x = torch.ones(2, device="cuda")
        """,
        """
        graphc.DeviceError: Torch not compiled with CUDA enabled: no CUDA device is available
          Use device='cpu'; cuda.is_available() tells.
        """,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_message(name, tmp_path):
    program, expected = CASES[name]
    path = tmp_path / "train.py"
    path.write_text("import graphc as torch\nfrom graphc import nn" + textwrap.dedent(program))
    with pytest.raises(gc.GraphcError) as caught:
        runpy.run_path(str(path))
    shown = "".join(traceback.format_exception_only(caught.value))
    shown = re.sub(r"^graphc\.(\w+\.)*", "graphc.", shown)  # whatever module holds the class
    assert shown == textwrap.dedent(expected).removeprefix("\n")
    assert len(shown.splitlines()) <= 8


def test_modules_are_left_again_after_an_error():
    layer = gc.nn.Linear(3, 4)
    with pytest.raises(RuntimeError, match="in Linear"):
        layer(gc.ones(2, 2))
    with pytest.raises(RuntimeError) as caught:
        gc.ones(2) + gc.ones(3)
    assert "Linear" not in str(caught.value)


def test_errors_are_torchs_types():
    assert issubclass(gc.ShapeError, RuntimeError)
    assert issubclass(gc.DTypeError, RuntimeError)
    assert issubclass(gc.BoundsError, IndexError)
    assert issubclass(gc.UnsupportedError, NotImplementedError)
