"""The preprocessing of a deployed ONNX file, written as a graph: exporting it from torch takes ten seconds a size.

It computes what `hscc.export.preprocessing.Preprocess` does, in the same number formats and the same order.
"""

from __future__ import annotations

import onnx

from hscc.export.preprocessing import LUMINANCE, LUMINANCE_UNIT, WEIGHT_UNIT, Preprocessing

# In the format of onnx.parser. `image`: uint8 (batch, rows, columns, channels), all of them free.
_GRAPH = """
<ir_version: 10, opset_import: ["" : {opset}]>
preprocessing (uint8[batch,rows,columns,channels] {input}) => (float[batch,{channels},{height},{width}] {output})
<
  int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}}, int64 three = {{3}},
  int64 height = {{{height}}}, int64 width = {{{width}}},
  int64[1] axis_0 = {{0}}, int64[1] axis_1 = {{1}}, int64[1] axis_2 = {{2}}, int64[1] rest = {{-1}},
  int64[3] colours = {{0, 1, 2}},
  float[3,1,1,1] luminance = {{{luminance}}}, float luminance_unit = {{{luminance_unit}}},
  float luminance_half = {{{luminance_half}}},
  double d_zero = {{0.0}}, double d_half = {{0.5}}, double d_one = {{1.0}}, double weight_unit = {{{weight_unit}}},
  int32 weight_half = {{{weight_half}}},
  int64[2] new_size = {{{height}, {width}}}, int64[1] number_3 = {{3}},
  float levels_unit = {{255.0}}, float[1,{channels},1,1] mean = {{{mean}}}, float[1,{channels},1,1] std = {{{std}}}
>
{{
  shape = Shape ({input})
  rows_of = Gather <axis = 0> (shape, one)
  columns_of = Gather <axis = 0> (shape, two)
  channels_of = Gather <axis = 0> (shape, three)
  thirds = Div (channels_of, three)
  step = Min (thirds, one)
  source = Mul (colours, step)
  moved = Transpose <perm = [3, 0, 1, 2]> ({input})
  coloured = Gather <axis = 0> (moved, source)
{to_planes}
  too_tall = Sub (rows_of, height)
  too_wide = Sub (columns_of, width)
  twice = Mul (two, too_wide)
  smaller = Greater (too_tall, zero)
  taller = Greater (too_tall, twice)
  tall = And (smaller, taller)
  resized = If (tall) <
    then_branch = rows_first () => (uint8[planes,{height},{width}] from_rows) {{
      on_side = Transpose <perm = [0, 2, 1]> (planes)
{rows_then}
{columns_last}
      from_rows = Transpose <perm = [0, 2, 1]> (t_columns)
    }},
    else_branch = columns_first () => (uint8[planes,{height},{width}] from_columns) {{
{columns_then}
{rows_last}
      from_columns = Identity (e_rows)
    }}
  >
{from_planes}
  in_float = Cast <to = 1> (ordered)
  scaled = Div (in_float, levels_unit)
  centred = Sub (scaled, mean)
  {output} = Div (centred, std)
}}
"""

_GREY = """
  weighted = Cast <to = 1> (coloured)
  parts = Mul (weighted, luminance)
  sum = ReduceSum <keepdims = 0> (parts, axis_0)
  rounded = Add (sum, luminance_half)
  grey = Div (rounded, luminance_unit)
  planes = Cast <to = 2> (grey)
"""
_FROM_GREY = """
  ordered = Unsqueeze (resized, axis_1)
"""
_COLOURS = """
  image_size = Slice (shape, axis_1, number_3)
  flat_shape = Concat <axis = 0> (rest, image_size)
  planes = Reshape (coloured, flat_shape)
"""
_FROM_COLOURS = """
  apart_shape = Concat <axis = 0> (number_3, rest, new_size)
  apart = Reshape (resized, apart_shape)
  ordered = Transpose <perm = [1, 0, 2, 3]> (apart)
"""

# Resize the last axis of `planes` and bring it forward: uint8 (n, a, length) to uint8 (n, size, a). Whole rows are
# gathered, which is cheap; a tap beyond the border weighs 0 and may read any pixel. Every name gets the prefix.
_LAST_AXIS = """
      #length = Cast <to = 11> ({length})
      #size = Cast <to = 11> ({size})
      #scale = Div (#length, #size)
      #support = Max (#scale, d_one)
      #numbers = Range (zero, {size}, one)
      #numbers_d = Cast <to = 11> (#numbers)
      #middles = Add (#numbers_d, d_half)
      #centres = Mul (#middles, #scale)
      #begin = Sub (#centres, #support)
      #begin_half = Add (#begin, d_half)
      #begin_inside = Max (#begin_half, d_zero)
      #first = Cast <to = 7> (#begin_inside)
      #stop = Add (#centres, #support)
      #stop_half = Add (#stop, d_half)
      #stop_whole = Cast <to = 7> (#stop_half)
      #end = Min (#stop_whole, {length})
      #sum_of_both = Add ({length}, {size})
      #almost = Sub (#sum_of_both, one)
      #ratio = Div (#almost, {size})
      #at_least_one = Max (#ratio, one)
      #both_sides = Mul (two, #at_least_one)
      #taps = Add (#both_sides, one)
      #range = Range (zero, #taps, one)
      #first_column = Unsqueeze (#first, axis_1)
      #positions = Add (#first_column, #range)
      #positions_d = Cast <to = 11> (#positions)
      #centres_column = Unsqueeze (#centres, axis_1)
      #away = Sub (#positions_d, #centres_column)
      #away_half = Add (#away, d_half)
      #inverse = Div (d_one, #support)
      #distance = Mul (#away_half, #inverse)
      #distance_abs = Abs (#distance)
      #triangle = Sub (d_one, #distance_abs)
      #above = Max (#triangle, d_zero)
      #end_column = Unsqueeze (#end, axis_1)
      #inside = Less (#positions, #end_column)
      #weights = Where (#inside, #above, d_zero)
      #total = ReduceSum <keepdims = 1> (#weights, axis_1)
      #shares = Div (#weights, #total)
      #shares_unit = Mul (#shares, weight_unit)
      #shares_half = Add (#shares_unit, d_half)
      #factors = Cast <to = 6> (#shares_half)
      #factors_row = Unsqueeze (#factors, axis_1)
      #last = Sub ({length}, one)
      #readable = Min (#positions, #last)
      #indices = Reshape (#readable, rest)
      #turned = Transpose <perm = [0, 2, 1]> ({planes})
      #read = Gather <axis = 1> (#turned, #indices)
      #size_1 = Unsqueeze ({size}, axis_0)
      #taps_1 = Unsqueeze (#taps, axis_0)
      #read_shape = Concat <axis = 0> (axis_0, #size_1, #taps_1, rest)
      #by_tap = Reshape (#read, #read_shape)
      #by_tap_int = Cast <to = 6> (#by_tap)
      #products = MatMul (#factors_row, #by_tap_int)
      #summed = Squeeze (#products, axis_2)
      #rounded = Add (#summed, weight_half)
      #in_double = Cast <to = 11> (#rounded)
      #level = Div (#in_double, weight_unit)
      {out} = Cast <to = 2> (#level)
"""


def preprocessing_graph(preprocessing: Preprocessing, opset: int, image: str, prepared: str) -> onnx.ModelProto:
    """Write the graph from pictures to a network's input.

    Parameters
    ----------
    preprocessing : Preprocessing
        What to do.
    opset : int
        Version of the standard operators, 13 or later.
    image, prepared : str
        Names of the input, uint8 (batch, rows, columns, channels), and of the output, float32 (batch, channels,
        height, width); of volumes uint8 (batch, slices, rows, columns) of the network's size, and float32 (batch,
        channels, slices, rows, columns).
    """
    if preprocessing.of_volumes:
        return onnx.parser.parse_model(_of_volumes(preprocessing, opset, image, prepared))
    _, height, width = preprocessing.input_shape
    text = _GRAPH.format(
        opset=opset,
        input=image,
        output=prepared,
        height=height,
        width=width,
        channels=preprocessing.channels,
        luminance=", ".join(map(str, LUMINANCE)),
        luminance_unit=float(LUMINANCE_UNIT),
        luminance_half=float(LUMINANCE_UNIT // 2),
        weight_unit=float(WEIGHT_UNIT),
        weight_half=WEIGHT_UNIT // 2,
        mean=", ".join(f"{value!r}" for value in preprocessing.mean),
        std=", ".join(f"{value!r}" for value in preprocessing.std),
        to_planes=_GREY if preprocessing.grey else _COLOURS,
        from_planes=_FROM_GREY if preprocessing.grey else _FROM_COLOURS,
        rows_then=_last_axis("tr_", "on_side", "rows_of", "height", "t_rows"),
        columns_last=_last_axis("tc_", "t_rows", "columns_of", "width", "t_columns"),
        columns_then=_last_axis("ec_", "planes", "columns_of", "width", "e_columns"),
        rows_last=_last_axis("er_", "e_columns", "rows_of", "height", "e_rows"),
    )
    return onnx.parser.parse_model(text)


def _of_volumes(preprocessing: Preprocessing, opset: int, image: str, prepared: str) -> str:
    channels, *size = preprocessing.input_shape
    sides = ", ".join(map(str, size))
    mean, std = (", ".join(f"{value!r}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    return f"""
<ir_version: 8, opset_import: ["" : {opset}]>
preprocessing (uint8[batch, {sides}] {image}) => (float[batch, {channels}, {sides}] {prepared})
<
  int64[1] axis_1 = {{1}}, float top = {{255.0}},
  float[1, {channels}, 1, 1, 1] mean = {{{mean}}}, float[1, {channels}, 1, 1, 1] std = {{{std}}}
>
{{
  levels = Cast <to = 1> ({image})
  with_channel = Unsqueeze (levels, axis_1)
  shares = Div (with_channel, top)
  centred = Sub (shares, mean)
  {prepared} = Div (centred, std)
}}
"""


def _last_axis(prefix: str, planes: str, length: str, size: str, out: str) -> str:
    return _LAST_AXIS.format(planes=planes, length=length, size=size, out=out).replace("#", prefix)
