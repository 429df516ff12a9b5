"""Where the weights of a step come from: from memory as they are, or out of AdamW's update.

Both functions have the same parameters, so that a kernel takes either; `WRITE` has the update written back.
"""

import triton
import triton.language as tl

from sparse_circuits.kernels.magnitude_prune.table import (
    BETA1,
    BETA2,
    DECAY,
    EPS,
    EXP_AVG,
    EXP_AVG_SQ,
    GRADIENT,
    LR,
    ROOT,
    SCALE,
    STEP_SIZE,
    WEIGHT,
    number,
    pointer,
)


@triton.jit
def read(
    table_ptr,
    tensor,
    index,
    inside,
    WRITE: tl.constexpr,
    DTYPE: tl.constexpr,
    TENSORS: tl.constexpr,
    VECTOR: tl.constexpr,
):
    """Return the weights at the flat indices that are inside, 0 elsewhere."""
    return tl.load(pointer(table_ptr, tensor, WEIGHT, DTYPE, TENSORS, VECTOR) + index, mask=inside, other=0)


@triton.jit
def read_updated(
    table_ptr,
    tensor,
    index,
    inside,
    WRITE: tl.constexpr,
    DTYPE: tl.constexpr,
    TENSORS: tl.constexpr,
    VECTOR: tl.constexpr,
):
    """Return them after this step of AdamW, in torch's order of operations, rounded to their dtype.

    `step_size` is lr / (1 - beta1^step) and `root` the square root of 1 - beta2^step.
    """
    weight_ptr = pointer(table_ptr, tensor, WEIGHT, DTYPE, TENSORS, VECTOR) + index
    exp_avg_ptr = pointer(table_ptr, tensor, EXP_AVG, DTYPE, TENSORS, VECTOR) + index
    exp_avg_sq_ptr = pointer(table_ptr, tensor, EXP_AVG_SQ, DTYPE, TENSORS, VECTOR) + index
    gradient_ptr = pointer(table_ptr, tensor, GRADIENT, DTYPE, TENSORS, VECTOR) + index
    weight = tl.load(weight_ptr, mask=inside, other=0).to(tl.float32)
    exp_avg = tl.load(exp_avg_ptr, mask=inside, other=0).to(tl.float32)
    exp_avg_sq = tl.load(exp_avg_sq_ptr, mask=inside, other=0).to(tl.float32)
    gradient = tl.load(gradient_ptr, mask=inside, other=0).to(tl.float32)

    beta1, beta2 = number(table_ptr, tensor, BETA1, TENSORS), number(table_ptr, tensor, BETA2, TENSORS)
    shrinking = number(table_ptr, tensor, LR, TENSORS) * number(table_ptr, tensor, DECAY, TENSORS)
    gradient = tl.div_rn(gradient, number(table_ptr, tensor, SCALE, TENSORS).to(tl.float32))
    weight -= shrinking.to(tl.float32) * weight
    exp_avg = beta1.to(tl.float32) * exp_avg + (1 - beta1).to(tl.float32) * gradient
    exp_avg_sq = beta2.to(tl.float32) * exp_avg_sq + (1 - beta2).to(tl.float32) * gradient * gradient
    root = tl.div_rn(tl.sqrt_rn(exp_avg_sq), number(table_ptr, tensor, ROOT, TENSORS).to(tl.float32))
    denominator = root + number(table_ptr, tensor, EPS, TENSORS).to(tl.float32)
    step = tl.div_rn(number(table_ptr, tensor, STEP_SIZE, TENSORS).to(tl.float32) * exp_avg, denominator)
    weight = (weight - step).to(DTYPE)
    if WRITE:
        tl.store(weight_ptr, weight, mask=inside)
        tl.store(exp_avg_ptr, exp_avg.to(DTYPE), mask=inside)
        tl.store(exp_avg_sq_ptr, exp_avg_sq.to(DTYPE), mask=inside)
    return weight
