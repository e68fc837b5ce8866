"""Targets, objects from IR text, and their linking into this process."""

import ctypes
import gc
import subprocess
import sys
import threading
import weakref

import pytest
from llvmlite import binding

from graphc.backends.llvm import jit, symbols
from graphc.backends.llvm import target as targets
from graphc.backends.llvm.objectfile import undefined_symbols
from graphc.backends.llvm.settings import settings
from graphc.backends.llvm.target import TARGETS, Target, get_target, host_target, runs_here

_ADD = """
define i64 @add(i64 %a, i64 %b) {
  %sum = add i64 %a, %b
  ret i64 %sum
}
"""
_USES = """
@table = external global i64
declare i64 @add(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define i64 @use(i64 %a, ptr %p, i64 %n) {
  %t = load i64, ptr @table
  call void @llvm.memset.p0.i64(ptr %p, i8 7, i64 %n, i1 false)
  %r = call i64 @add(i64 %a, i64 %t)
  ret i64 %r
}
"""


def _function(address, count):
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * count)(address)


def _floor(lanes):
    vector = f"<{lanes} x float>"
    return f"""
declare {vector} @llvm.floor.v{lanes}f32({vector})
define void @floor_all(ptr %p) {{
  %x = load {vector}, ptr %p
  %y = call {vector} @llvm.floor.v{lanes}f32({vector} %x)
  store {vector} %y, ptr %p
  ret void
}}
"""


def test_code_is_compiled_and_called():
    code = jit.load(_ADD, ["add"])
    assert _function(code["add"], 2)(40, 2) == 42
    assert code.addresses == {"add": code["add"]}


def test_code_calls_other_code_and_reads_data():
    table = ctypes.c_int64(1000)
    add = jit.load(_ADD, ["add"])
    use = jit.load(_USES, ["use"], {"add": add, "table": ctypes.addressof(table)})
    alive = weakref.ref(add)
    del add
    gc.collect()
    assert alive() is not None  # imported by `use`
    memory = ctypes.create_string_buffer(100)
    assert _function(use["use"], 3)(5, ctypes.addressof(memory), 99) == 1005
    assert memory.raw == b"\7" * 99 + b"\0"
    del use
    gc.collect()
    assert alive() is None


def test_a_name_may_be_defined_by_several_objects():
    first = jit.load("define i64 @f() {\n  ret i64 1\n}\n", ["f"])
    second = jit.load("define i64 @f() {\n  ret i64 2\n}\n", ["f"])
    assert (_function(first["f"], 0)(), _function(second["f"], 0)()) == (1, 2)


def test_text_that_is_wrong_is_refused():
    with pytest.raises(jit.CodegenError, match="expected"):
        jit.compile_text("define i64 @f( {")
    unverified = """
define i64 @f(i1 %c) {
entry:
  br i1 %c, label %a, label %b
a:
  %x = add i64 1, 2
  br label %b
b:
  ret i64 %x
}
"""
    with pytest.raises(jit.CodegenError, match="does not dominate"):
        jit.compile_text(unverified)


def test_calls_of_unknown_functions_are_refused():
    with pytest.raises(jit.CodegenError, match="call add, table, which it must not"):
        jit.load(_USES, ["use"])
    with pytest.raises(jit.CodegenError, match="floorf"):
        jit.load_object(jit.compile_object(_floor(4), TARGETS["x86-64"]), ["floor_all"])
    with pytest.raises(jit.CodegenError, match="cannot be linked"):
        jit.load(_ADD, ["sub"])


@pytest.mark.parametrize("name", [name for name in TARGETS if runs_here(TARGETS[name])])
def test_levels_have_what_they_declare(name):
    """Natively: an operation that the level lacked would become a call, and be refused."""
    level = TARGETS[name]
    lanes = level.lanes(32)
    if level.has_rounding:
        jit.load(_floor(lanes), ["floor_all"], target=level)
    if level.has_fma:
        vector = f"<{lanes} x float>"
        text = f"""
declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})
define void @f(ptr %p) {{
  %x = load {vector}, ptr %p
  %y = call {vector} @llvm.fma.v{lanes}f32({vector} %x, {vector} %x, {vector} %x)
  store {vector} %y, ptr %p
  ret void
}}
"""
        jit.load(text, ["f"], target=level)
    if level.has_f16c:
        text = f"""
define void @f(ptr %p) {{
  %x = load <{lanes} x half>, ptr %p
  %y = fpext <{lanes} x half> %x to <{lanes} x float>
  %z = fmul <{lanes} x float> %y, %y
  %w = fptrunc <{lanes} x float> %z to <{lanes} x half>
  store <{lanes} x half> %w, ptr %p
  ret void
}}
"""
        jit.load(text, ["f"], target=level)


def test_levels_differ_in_width():
    widths = {name: (t.vector_bytes, t.lanes(32), t.lanes(64)) for name, t in TARGETS.items()}
    assert widths["x86-64"] == (16, 4, 2)
    assert widths["avx2"] == (32, 8, 4)
    assert widths["avx512"] == (64, 16, 8)
    assert widths["aarch64"] == (16, 4, 2)
    assert TARGETS["avx512"].has_masked and not TARGETS["avx2"].has_masked
    assert 32 in TARGETS["avx2"].masked_bits and not TARGETS["x86-64"].masked_bits


def test_the_host_is_at_least_what_runs_on_it():
    host = host_target()
    assert runs_here(host) and get_target("host") is host
    for level in TARGETS.values():
        if runs_here(level):
            assert level.vector_bytes <= host.vector_bytes
            assert set(level.masked_bits) <= set(host.masked_bits)
            assert host.has_fma >= level.has_fma and host.has_f16c >= level.has_f16c


@pytest.mark.parametrize(
    ("features", "width", "masked"),
    [
        ({}, 16, ()),
        ({"sse4.1": True}, 16, ()),
        (dict.fromkeys(targets._AVX2, True), 32, (32, 64)),
        (dict.fromkeys(targets._AVX2 + targets._AVX512, True), 64, (8, 16, 32, 64)),
        (dict.fromkeys(targets._AVX2 + targets._AVX512[:-1], True), 32, (32, 64)),
    ],
)
def test_the_host_is_known_by_its_features(monkeypatch, features, width, masked):
    monkeypatch.setattr(targets.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(targets, "host_features", lambda: features)
    host = host_target.__wrapped__()
    assert (host.vector_bytes, host.masked_bits) == (width, masked)


AMX = (*targets._BF16, *targets._AMX)


@pytest.mark.parametrize(
    "features, cpu, bf16, amx",
    [
        (targets._BF16, "znver4", True, False),
        (targets._BF16, "sapphirerapids", False, False),  # pairs are slower than f32
        (AMX, "sapphirerapids", True, True),
        (AMX[:-1], "sapphirerapids", False, False),
        (targets._AVX2 + targets._AVX512, "znver4", False, False),
    ],
)
def test_bf16_are_multiplied_in_pairs_where_that_is_faster(monkeypatch, features, cpu, bf16, amx):
    monkeypatch.setattr(targets.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(targets, "host_features", lambda: dict.fromkeys(features, True))
    monkeypatch.setattr(binding, "get_host_cpu_name", lambda: cpu)
    host = host_target.__wrapped__()
    assert (host.has_bf16, host.has_amx) == (bf16, amx)


@pytest.mark.parametrize("allowed", [True, False])
def test_tiles_that_the_system_refuses_are_no_feature(monkeypatch, allowed):
    found = {"avx512bf16": True, "amx-tile": True, "amx-bf16": True, "amx-int8": True}
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: found)
    monkeypatch.setattr(targets, "_may_use_tiles", lambda: allowed)
    features = targets.host_features.__wrapped__()
    assert [features[name] for name in found] == [True, allowed, allowed, allowed]


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
@pytest.mark.parametrize("features", [{}, {"bf16": True, "sve": True}])
def test_a_host_of_arm_has_the_vectors_of_neon(monkeypatch, machine, features):
    monkeypatch.setattr(targets.platform, "machine", lambda: machine)
    monkeypatch.setattr(targets, "host_features", lambda: features)
    host = host_target.__wrapped__()
    assert "+neon" in host.features.split(",")
    assert not host.has_bf16  # (there are kernels of x86 only)
    level = TARGETS["aarch64"]
    for name in ("vector_bytes", "registers", "masked_bits", "has_fma", "has_f16c", "has_rounding"):
        assert getattr(host, name) == getattr(level, name), name


def test_a_setting_chooses_the_target(monkeypatch):
    monkeypatch.setattr(settings, "target", "avx2")
    assert get_target() is TARGETS["avx2"]
    monkeypatch.setattr(settings, "target", "z80")
    with pytest.raises(ValueError, match=r"no target 'z80'; there are host, x86-64, avx2"):
        get_target()


def test_code_for_another_machine_is_compiled_but_not_loaded():
    other = TARGETS["aarch64" if host_target().arch == "x86_64" else "avx512"]
    image = jit.compile_text(_ADD, other)
    machine = {"aarch64": 183, "x86_64": 62}[other.arch]
    assert int.from_bytes(image[18:20], "little") == machine
    with pytest.raises(jit.CodegenError, match="cannot run code for the target"):
        jit.load(_ADD, ["add"], target=other)


@pytest.mark.parametrize("name", TARGETS)
def test_undefined_symbols_of_elf(name):
    assert undefined_symbols(jit.compile_text(_USES, TARGETS[name])) == {"add", "memset", "table"}
    assert undefined_symbols(jit.compile_text(_ADD, TARGETS[name])) == frozenset()


@pytest.mark.parametrize("triple", ["x86_64-apple-macosx", "arm64-apple-macosx"])
def test_undefined_symbols_of_macho(triple):
    cpu = "apple-m1" if triple.startswith("arm64") else "x86-64"
    apple = Target("apple", triple, cpu, "", vector_bytes=16, registers=16)
    assert {"add", "table"} <= undefined_symbols(jit.compile_text(_USES, apple))
    assert undefined_symbols(jit.compile_text(_ADD, apple)) == frozenset()


def test_other_formats_are_refused():
    with pytest.raises(ValueError, match="ELF or Mach-O"):
        undefined_symbols(b"MZ not an object")


def test_allowed_symbols_have_addresses():
    for name in symbols.ALLOWED:
        if sys.platform == "linux" or name not in symbols.SYSTEM:
            assert symbols.address_of(name) > 0
    with pytest.raises(KeyError):
        symbols.address_of("floorf")


def test_the_cost_of_compiling_is_counted(monkeypatch):
    monkeypatch.setattr(settings, "cache", False)
    before = jit.stats.snapshot()
    code = jit.load(_ADD, ["add"])
    cost = jit.stats.since(before)
    assert (cost.compiled, cost.loaded, cost.cache_hits) == (1, 1, 0)
    assert cost.lines == 5 and cost.object_bytes > 100
    assert cost.compile_ns >= cost.codegen_ns > 0 and cost.load_ns > 0
    assert code["add"]


def test_long_texts_are_compiled_without_cheaper_addresses():
    loop = """
define void @fill(ptr %p, i64 %n) {
entry:
  br label %head
head:
  %i = phi i64 [0, %entry], [%next, %head]
  %at = mul i64 %i, 24
  %place = getelementptr i8, ptr %p, i64 %at
  store i64 %i, ptr %place
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %head, label %done
done:
  ret void
}
"""
    before = jit.compile_text(loop)
    long = jit.compile_text(loop + ";\n" * 1000)
    assert long != before  # the multiplication stays in the loop
    assert jit.compile_text(loop) == before  # the option is one of the process, and is set back


def test_objects_come_from_the_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "cache", True)
    monkeypatch.setattr(settings, "cache_dir", tmp_path / "cache")
    before = jit.stats.snapshot()
    first = jit.compile_object(_ADD, TARGETS["avx2"])
    assert jit.compile_object(_ADD, TARGETS["avx2"]) == first
    jit.compile_object(_ADD, TARGETS["avx512"])
    cost = jit.stats.since(before)
    assert (cost.compiled, cost.cache_hits) == (2, 1)


def test_two_processes_make_the_same_bytes(tmp_path):
    program = (
        "import hashlib, sys\n"
        "from graphc.backends.llvm import jit\n"
        "print(hashlib.sha256(jit.compile_text(sys.argv[1])).hexdigest())\n"
    )
    command = [sys.executable, "-c", program, _USES]
    prints = {subprocess.run(command, check=True, capture_output=True).stdout for _ in range(2)}
    assert len(prints) == 1


def test_threads_compile_at_the_same_time():
    results = {}

    def work(number):
        text = f"define i64 @f() {{\n  ret i64 {number}\n}}\n"
        code = jit.load(text, ["f"])
        results[number] = _function(code["f"], 0)()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: number for number in range(8)}
