"""BatchNorm over the batch of all processes on CPUs, where torch has SyncBatchNorm for accelerators alone.

Ioffe & Szegedy (2015); the sums that cross processes are those of torch's SyncBatchNorm: forward each process's count,
mean and squared deviation (merged as by Chan et al. 1979), backward the sums of the gradient and of its product with
the normalized values.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolchain.errors import BadUsage
from toolchain.training import side_by_side

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class SharedBatchNorm(_BatchNorm):
    """Takes ``(N, C, ...)``; normalizes over the samples of all processes in training, and as any BatchNorm else."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        output, mean, variance, count = _Normalize.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.eps
        )
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked.add_(1)
                share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * (count / (count - 1)), share)
        normalized: torch.Tensor = output
        return normalized


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[torch.Tensor, ...]:
        input, weight, bias, eps = given
        # the kernels of torch's own BatchNorm, which read channels_last as it lies: 20 times as fast as var_mean
        mean, variance = torch.batch_norm_update_stats(input.float(), None, None, 0.0)
        size = torch.full((1,), float(input.numel() // input.shape[1]))
        own = torch.cat([mean, variance * size, size])
        together, channels = side_by_side.gathered(own), len(mean)
        means, deviations, sizes = together[:, :channels], together[:, channels:-1], together[:, -1:]
        count = sizes.sum()
        mean = (means * sizes).sum(0) / count
        variance = (deviations + (means - mean).square() * sizes).sum(0) / count
        ctx.save_for_backward(input, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(input, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input, weight, mean, variance, count = ctx.saved_tensors
        gradient, plain = gradients[0].float(), input.float()
        factor = torch.ones_like(mean) if weight is None else weight
        # the sums of dy * xhat and of dy, with mean and variance as they are given
        _, own_weight, own_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, plain, factor, mean, variance, None, None, False, ctx.eps, [False, True, True]
        )
        of_bias, of_weight = side_by_side.gathered(torch.cat([own_bias, own_weight])).sum(0).chunk(2)
        # dL/dx = scale * (dy - mean(dy) - xhat * mean(dy * xhat)): an affine map of dy and x
        inverse = (variance + ctx.eps).rsqrt()
        scale = factor * inverse
        slope = -scale * inverse * of_weight / count
        shift = -scale * of_bias / count - slope * mean
        input_gradient = _affine(gradient, scale, plain, slope, shift)
        return (
            input_gradient.to(input.dtype), None if weight is None else own_weight,
            None if weight is None else own_bias, None,
        )  # fmt: skip


def _affine(
    first: torch.Tensor, by: torch.Tensor, second: torch.Tensor, times: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    """``first * by + second * times + shift``, of (N, C, ...) and (C,) each."""
    if first.dim() == 4 and all(each.is_contiguous(memory_format=torch.channels_last) for each in (first, second)):
        # a row of pixels at a time: the loop over the few channels of one pixel is too short to be fast
        width = first.shape[3]
        first, second = (each.permute(0, 2, 3, 1).flatten(2) for each in (first, second))
        by, times, shift = (each.repeat(width) for each in (by, times, shift))
        rows = torch.addcmul(shift, second, times).addcmul_(first, by)
        return rows.view(*rows.shape[:2], width, -1).permute(0, 3, 1, 2)
    by, times, shift = (each.view(-1, *(1,) * (first.dim() - 2)) for each in (by, times, shift))
    return torch.addcmul(shift, second, times).addcmul_(first, by)


def shared(module: nn.Module, device: str) -> nn.Module:
    """``module`` with each BatchNorm over all processes: on GPUs torch's SyncBatchNorm.

    Raises BadUsage for a kind of BatchNorm that is not torch's: what it does beside normalizing would be left out.
    """
    for each in module.modules():
        if isinstance(each, _BatchNorm) and type(each) not in _PLAIN:
            raise BadUsage(
                f"The model's {type(each).__name__} is a BatchNorm and more, which --sync-batchnorm would leave out.",
                "Leave --sync-batchnorm out, or let the model have torch's own BatchNorm there.",
            )
    if device == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted
    return _converted(module)


def _converted(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm):
        made = SharedBatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )  # fmt: skip
        # the very weights, which may be frozen, or another layer's too
        made._parameters, made._buffers = module._parameters, module._buffers
        return made.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, _converted(child))
    return module
