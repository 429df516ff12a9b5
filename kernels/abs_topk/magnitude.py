"""The order that AbsTopK sorts by, on integers."""

import triton
import triton.language as tl


@triton.jit
def magnitude(x):
    """Return integers that sort like |x|, every NaN alike and above infinity."""
    if x.dtype == tl.float64:
        return tl.where(x == x, x.to(tl.int64, bitcast=True) & 0x7FFFFFFFFFFFFFFF, 0x7FF0000000000001)
    # A 16-bit float widens exactly; what the wider format adds below is zero and would only prolong the search.
    low_bits: tl.constexpr = 16 if x.dtype == tl.bfloat16 else (13 if x.dtype == tl.float16 else 0)
    wide = x.to(tl.float32)
    key = (wide.to(tl.int32, bitcast=True) & 0x7FFFFFFF) >> low_bits
    return tl.where(wide == wide, key, (0x7F800000 >> low_bits) + 1)
