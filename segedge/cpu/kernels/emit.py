"""From a kernel that Numba compiled to machine code that can be kept and mapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import njit
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock

from segedge.cpu.kernels.image import Image, LinkError, link

_ENTRY = "segedge_entry"
_WORD, _STATUS = ir.IntType(64), ir.IntType(32)
_READ_AS = {types.none: "", types.int64: "q", types.float64: "d", types.float32: "f"}
"""How results are read back (`struct`)."""
_MEMINFO_BYTES = 6 * 8
_USUAL_ALIGN = 16


@global_compiler_lock
def image_of(
    function: Callable[..., Any], options: dict[str, Any], args: tuple[Any, ...], words: int
) -> Image:
    """Compile a kernel for arguments of these types, and what calls it with ``words`` words.

    Raises:
        LinkError: Its machine code cannot be kept.
    """
    # What calls it from Python would be a good part of the compiling, and needs Numba to run.
    dispatcher = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function)
    signature = tuple(map(dispatcher.typeof_pyval, args))
    dispatcher.compile(signature)
    compiled = dispatcher.overloads[signature]
    context, facts = compiled.target_context, compiled.fndesc
    if facts.restype not in _READ_AS:
        raise LinkError(f"a result of type {facts.restype}")
    kind = context.call_conv.get_function_type(facts.restype, facts.argtypes)
    if len(kind.args) - 1 != words:  # result, exception, arguments; the words: result, arguments
        raise LinkError(f"{len(kind.args)} arguments, {words} words")
    codegen = context.codegen()
    module = _caller(kind, facts.llvm_func_name)
    _add_memory(module)
    caller = binding.parse_assembly(str(module))
    caller.triple, caller.data_layout = codegen._tm.triple, str(codegen.target_data)
    objects = [codegen._tm.emit_object(caller), compiled.library._get_compiled_object()]
    return link(objects, _ENTRY, result=_READ_AS[facts.restype])


def _caller(kind: ir.FunctionType, name: str) -> ir.Module:
    """A function of one address: there lie a place for the result and the arguments, in words."""
    module = ir.Module("caller")
    kernel = ir.Function(module, kind, name=name)
    entry = ir.Function(module, ir.FunctionType(_STATUS, [_WORD.as_pointer()]), name=_ENTRY)
    builder = ir.IRBuilder(entry.append_basic_block())
    (words,) = entry.args
    result, exception, *rest = kind.args
    args = [builder.bitcast(words, result), builder.alloca(exception.pointee)]
    for number, wanted in enumerate(rest, start=1):
        place = builder.gep(words, [ir.Constant(_WORD, number)])
        args.append(builder.load(builder.bitcast(place, wanted.as_pointer())))
    builder.ret(builder.call(kernel, args))
    return module


def _add_memory(module: ir.Module) -> None:
    """What arrays that a kernel makes for itself ask of Numba's runtime: memory, and its end.

    The memory begins with what Numba keeps of an array (`MemInfo` of numba/core/runtime): a count
    of references, two words of a destructor, the address of the data, its size, an allocator.
    """
    pointer, nothing = ir.IntType(8).as_pointer(), ir.VoidType()
    take = ir.Function(module, ir.FunctionType(pointer, [_WORD]), name="malloc")
    free = ir.Function(module, ir.FunctionType(nothing, [pointer]), name="free")

    def define(name: str, result: Any, *arguments: Any) -> tuple[ir.IRBuilder, Any]:
        function = ir.Function(module, ir.FunctionType(result, arguments), name=name)
        function.linkage = "weak"
        return ir.IRBuilder(function.append_basic_block()), function.args

    builder, (size, align) = define("NRT_MemInfo_alloc_aligned", pointer, _WORD, _STATUS)
    wide = builder.zext(align, _WORD)
    spare = builder.add(wide, ir.Constant(_WORD, _MEMINFO_BYTES))
    block = builder.call(take, [builder.add(size, spare)])
    with builder.if_then(builder.icmp_unsigned("==", block, ir.Constant(pointer, None))):
        builder.ret(block)  # Numba raises then
    words = builder.bitcast(block, _WORD.as_pointer())
    start = builder.add(builder.ptrtoint(block, _WORD), builder.sub(spare, ir.Constant(_WORD, 1)))
    data = builder.and_(start, builder.neg(wide))
    for number, value in enumerate((ir.Constant(_WORD, 1), None, None, data, size, None)):
        place = builder.gep(words, [ir.Constant(_WORD, number)])
        builder.store(value or ir.Constant(_WORD, 0), place)
    builder.ret(block)
    aligned = builder.function
    builder, (size,) = define("NRT_MemInfo_alloc", pointer, _WORD)
    builder.ret(builder.call(aligned, [size, ir.Constant(_STATUS, _USUAL_ALIGN)]))
    builder, (size,) = define("NRT_Allocate", pointer, _WORD)
    builder.ret(builder.call(take, [size]))
    for name in ("NRT_MemInfo_call_dtor", "NRT_Free"):
        builder, (block,) = define(name, nothing, pointer)
        builder.call(free, [block])
        builder.ret_void()
