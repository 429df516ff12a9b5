"""Training on a fixed support: which entries are not zero is chosen every so many steps, and between only those are trained.

Gao et al. 2025 leave open (appendix B) what it costs to fix the support, which lets gradients, moments and products shrink to
the nonzeros. While L0 anneals, steps are the ordinary ones. From then on there are two kinds:

- a *fixed* step computes the gradient of the support's entries, and of the parameters that are never sparse, and takes AdamW's
  step on those; the moments of a sparse tensor hold one number per nonzero. Each matrix takes the sparse or the dense product,
  whichever `sparse_linear`'s table says is faster.
- a *choosing* step computes the gradient g of every entry. The support's entries take AdamW's step; an entry outside takes the
  one that AdamW, corrected for its bias, would take first: -lr g / (|g| + eps). Then every tensor is pruned to its budget, what
  is left is the next support, and entries new in it have the moments of that first step, (1 - beta1) g and (1 - beta2) g^2.

The rule that divides the gradient by its root mean square takes the RMS over what the step computes: everything, or the
support and the parameters that are never sparse. An entry of the support that comes to be exactly zero stays in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.kernels.magnitude_prune import fused_scale
from sparse_circuits.kernels.sparse_linear import Product, Support, choose_product, sparse_linear
from sparse_circuits.model import Transformer
from sparse_circuits.model.linear import Linear
from sparse_circuits.run import Autocast, world_size
from sparse_circuits.sparsity import project_
from sparse_circuits.training.config import OptimizerConfig, TrainConfig
from sparse_circuits.training.optimizer import build_optimizer, gradient_divisor, gradient_rms
from sparse_circuits.training.step import Pace, PretrainStep, refuse_to_diverge

MOMENTS = ("exp_avg", "exp_avg_sq")

State = Mapping[str, Tensor]
"""AdamW's state of one parameter: `step` and MOMENTS."""


class FixedSupportStep:
    """The step that `fit` takes when the support is chosen anew only every `sparsity.support_every` steps.

    Args:
        model: the model to train, on its device.
        config: the whole run's config.
        autocast: makes the context in which the loss is computed.
    """

    def __init__(self, model: Transformer, config: TrainConfig, *, autocast: Autocast = nullcontext) -> None:
        self.model, self.config, self.autocast = model, config, autocast
        self.ordinary = PretrainStep(model, config, autocast=autocast)
        self.support: FixedSupport | None = None

    @property
    def optimizer(self) -> torch.optim.AdamW:
        """The AdamW in use, whose state holds one number per trained entry and moment."""
        return self.support.optimizer if self.support else self.ordinary.optimizer

    def __call__(self, batch: Int[Tensor, "batch pos_plus_one"], *, index: int) -> dict[str, float | Tensor]:
        """Take step `index` and return loss, L0, learning rate and gradient RMS."""
        pace = self.ordinary.pace(index)
        if pace.density > 0:
            return self.ordinary(batch, index=index)
        chooses = self.support is None or (index + 1) % self.config.sparsity.support_every == 0
        loss, rms = (self._choosing_step if chooses else self._fixed_step)(batch, pace, index)
        return {"loss": loss, "l0": pace.l0, "lr": pace.lr, "gradient_rms": rms}

    def _fixed_step(self, batch: Tensor, pace: Pace, index: int) -> tuple[Tensor, Tensor]:
        with self.support.products():
            loss = self.ordinary.backward(batch, averaged=False)
        self.support.gather_gradients()
        rms = gradient_rms(p.grad for p in self.support.trained.values())
        refuse_to_diverge(loss, rms, index, parameters=self.support.trained)
        self.support.update(lr=pace.lr, divisor=gradient_divisor(rms, self.config.optimizer.gradient))
        return loss, rms

    def _choosing_step(self, batch: Tensor, pace: Pace, index: int) -> tuple[Tensor, Tensor]:
        loss = self.ordinary.backward(batch)
        parameters = dict(self.model.named_parameters())
        gradients = [p.grad for p in parameters.values()]
        rms = gradient_rms(gradients)
        refuse_to_diverge(loss, rms, index, parameters=parameters)
        torch._foreach_div_(gradients, gradient_divisor(rms, self.config.optimizer.gradient))
        self._update_every_entry(pace.lr)
        project_(self.model, self.ordinary.budgets, density=0.0)
        self._choose()
        self.ordinary.optimizer.zero_grad(set_to_none=True)
        return loss, rms

    def _update_every_entry(self, lr: float) -> None:
        if self.support:
            self.support.update_with_candidates(lr=lr)
        else:
            step_(self.ordinary.optimizer, lr=lr, grad_scale=None)

    @torch.no_grad()
    def _choose(self) -> None:
        """Make the nonzeros of the pruned model the support; gradients are those of the step that pruned it."""
        parameters = dict(self.model.named_parameters())
        index = {name: parameters[name].flatten().nonzero().squeeze(1) for name in self.ordinary.budgets}
        state = {}
        for name, p in parameters.items():
            state[name] = self.support.whole_state(name) if self.support else self.ordinary.optimizer.state[p]
            if name in index:
                state[name] = {"step": state[name]["step"]} | {key: state[name][key].flatten()[index[name]] for key in MOMENTS}
        self._fix(index, state)

    def _fix(self, index: Mapping[str, Tensor], state: Mapping[str, State]) -> None:
        dtype = product_dtype(self.autocast, self.model.embed.weight.device)
        self.support = FixedSupport(self.model, index=index, state=state, config=self.config.optimizer, dtype=dtype)
        self.ordinary.optimizer.state.clear()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold of this step, by name."""
        if self.support is None:
            return self.ordinary.tensors()
        return {f"model:{name}": p.detach() for name, p in self.model.named_parameters()} | self.support.tensors()

    @torch.no_grad()
    def load_tensors(self, held: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        if not any(name.startswith("support:") for name in held):
            self.ordinary.load_tensors(held)
            return
        state = {}
        for name, p in self.model.named_parameters():
            p.copy_(held[f"model:{name}"])
            state[name] = {key: held[f"{key}:{name}"].to(p.device) for key in ("step", *MOMENTS)}
        device = self.model.embed.weight.device
        index = {name: held[f"support:{name}"].to(device) for name in self.ordinary.budgets}
        self._fix(index, state)


class FixedSupport:
    """What is trained between two choices: the values of the support's entries, and whole the parameters that are never sparse.

    Args:
        model: the model, whose sparse tensors are zero outside the support.
        index: for each sparse tensor where the support's entries lie in it, flattened, ascending.
        state: AdamW's state of every parameter; moments of a sparse tensor have one number per entry of the support.
        config: AdamW's settings.
        dtype: what matrices are multiplied in.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        index: Mapping[str, Int[Tensor, " n_nonzero"]],
        state: Mapping[str, State],
        config: OptimizerConfig,
        dtype: torch.dtype,
    ) -> None:
        self.parameters, self.index = dict(model.named_parameters()), index
        self.trained: dict[str, Tensor] = {}  # the parameter, or for a sparse one its values on the support (n_nonzero,)
        for name, p in self.parameters.items():
            self.trained[name] = p.detach().flatten()[index[name]].requires_grad_() if name in index else p
        self.optimizer = build_optimizer(self.trained, config)
        for name, p in self.trained.items():
            self.optimizer.state[p] = dict(state[name])
        self._products = dict(self._sparse_products(model, dtype))

    def _sparse_products(self, model: Transformer, dtype: torch.dtype) -> Iterator[tuple[Linear, Callable[..., Tensor]]]:
        """Yield the linear maps for which the sparse product is faster, with that product."""
        for name, module in model.named_modules():
            if not isinstance(module, Linear):
                continue
            weight, index = module.weight, self.index[f"{name}.weight"]
            choice = choose_product(len(index) / weight.numel(), dtype=dtype, device=weight.device)
            if choice.product is Product.sparse:
                mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device).index_fill_(0, index, True)
                yield module, partial(_multiply, self.trained[f"{name}.weight"], Support.of(mask.view(weight.shape)))

    @contextmanager
    def products(self) -> Iterator[None]:
        """Multiply on the support alone, inside the context, wherever that is faster."""
        try:
            for module, product in self._products.items():
                module.product = product
            yield
        finally:
            for module in self._products:
                module.product = None

    @torch.no_grad()
    def gather_gradients(self) -> None:
        """Take the support's entries out of dense gradients, and average what is trained over all processes."""
        for name, index in self.index.items():
            p = self.parameters[name]
            if p.grad is not None:  # the product was dense
                self.trained[name].grad, p.grad = p.grad.flatten()[index], None
        average_([p.grad for p in self.trained.values()])

    def update(self, *, lr: float, divisor: Float[Tensor, ""]) -> None:
        """Take AdamW's step on what is trained, with gradients divided by `divisor`, and drop them."""
        self._step(lr, grad_scale=divisor)
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def update_with_candidates(self, *, lr: float) -> None:
        """Take AdamW's step on every entry, with the dense gradients as they are; outside the support it is a first step."""
        eps = self.optimizer.defaults["eps"]
        for name, index in self.index.items():
            p = self.parameters[name]
            self.trained[name].grad = p.grad.flatten()[index]
            p.copy_(-lr * p.grad / (p.grad.abs() + eps))
        self._step(lr, grad_scale=None)

    @torch.no_grad()
    def _step(self, lr: float, *, grad_scale: Tensor | None) -> None:
        """Take AdamW's step on what is trained and write the values into the model."""
        step_(self.optimizer, lr=lr, grad_scale=grad_scale)
        for name, index in self.index.items():
            self.parameters[name].view(-1)[index] = self.trained[name]

    def whole_state(self, name: str) -> State:
        """Return AdamW's state of a whole parameter; outside the support the moments are those after a first step."""
        state = self.optimizer.state[self.trained[name]]
        if name not in self.index:
            return state
        gradient = self.parameters[name].grad.flatten()
        beta1, beta2 = self.optimizer.defaults["betas"]
        whole = {"exp_avg": (1 - beta1) * gradient, "exp_avg_sq": (1 - beta2) * gradient**2}
        for key in MOMENTS:
            whole[key][self.index[name]] = state[key]
        return whole | {"step": state["step"]}

    def tensors(self) -> dict[str, Tensor]:
        """Return the support and AdamW's state, by name."""
        held = {f"support:{name}": index for name, index in self.index.items()}
        for name, p in self.trained.items():
            held |= {f"{key}:{name}": value for key, value in self.optimizer.state[p].items()}
        return held


def _multiply(values: Tensor, support: Support, x: Tensor, bias: Tensor | None) -> Tensor:
    return sparse_linear(x, values, support, bias)


def step_(optimizer: torch.optim.AdamW, *, lr: float, grad_scale: Tensor | None) -> None:
    """Take the optimizer's step at this learning rate; the fused kernel divides gradients by `grad_scale` on its way."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
    optimizer.grad_scale = fused_scale(gradients, grad_scale)
    optimizer.step()


def average_(gradients: list[Tensor]) -> None:
    """Average gradients over all processes, in place, in one message."""
    if world_size() == 1:
        return
    together = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(together)
    together /= world_size()
    for gradient, mean in zip(gradients, together.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def product_dtype(autocast: Autocast, device: torch.device) -> torch.dtype:
    """Return what matrices are multiplied in under this autocast."""
    with autocast():
        return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
