"""BatchNorm over the batch of all processes on CPUs, where torch has SyncBatchNorm for accelerators alone.

Ioffe & Szegedy (2015); the sums that cross processes are those of torch's SyncBatchNorm: forward each process's count,
mean and squared deviation (merged as by Chan et al. 1979), backward the sums of the gradient and of its product with
the normalized values.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolchain.errors import BadUsage

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
        every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(every, own)
        together, channels = torch.stack(every), len(mean)
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
        plain, factor = input.float(), torch.ones_like(mean) if weight is None else weight
        # as if mean and variance were constants: scale * dy, and the sums of dy * xhat and of dy
        scaled, own_weight, own_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0].float(), plain, factor, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.cat([own_bias, own_weight])
        dist.all_reduce(sums)
        of_bias, of_weight = sums.chunk(2)
        # dL/dx = scale * (dy - mean(dy) - xhat * mean(dy * xhat)): the rest of it is an affine map of xhat
        share = -factor * (variance + ctx.eps).rsqrt() / count
        rest = F.batch_norm(plain, mean, variance, share * of_weight, share * of_bias, False, 0.0, ctx.eps)
        input_gradient = scaled.add_(rest)
        return (
            input_gradient.to(input.dtype), None if weight is None else own_weight,
            None if weight is None else own_bias, None,
        )  # fmt: skip


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
