"""Of the zoo: PointNet over points in space, and a graph net that adds up along edges."""

import itertools

import torch
from torch import nn

from benchmarks.zoo.attention import seeded

Tensor = torch.Tensor


def _shared(*widths: int) -> nn.Sequential:
    """The same layers for each point."""
    pairs = itertools.pairwise(widths)
    return nn.Sequential(
        *(nn.Sequential(nn.Conv1d(a, b, 1), nn.BatchNorm1d(b), nn.ReLU()) for a, b in pairs),
    )


class Turn(nn.Module):
    """The 3 x 3 matrix by which PointNet turns its points first (Qi et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.points, self.matrix = _shared(3, 16, 64), nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 9))

    def forward(self, points: Tensor) -> Tensor:
        whole = self.points(points).max(2, keepdim=True)[0].view(-1, 64)
        matrix: Tensor = self.matrix(whole).view(-1, 3, 3) + torch.eye(3)
        return matrix


class PointNet(nn.Module):
    """(N, 3, points) -> a score for each of 5 kinds of each point, and of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.turn, self.first, self.second = Turn(), _shared(3, 32), _shared(32, 64, 128)
        self.whole = nn.Linear(128, 5)
        self.parts = nn.Sequential(_shared(160, 64), nn.Conv1d(64, 5, 1))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        turned = torch.bmm(points.transpose(2, 1), self.turn(points)).transpose(2, 1)
        each = self.first(turned)
        whole = self.second(each).amax(2)
        parts = self.parts(torch.cat([each, whole.unsqueeze(2).expand(-1, -1, points.shape[2])], 1))
        return parts, torch.log_softmax(self.whole(whole), 1)


def pointnet() -> nn.Module:
    return seeded(PointNet, 16, 3, 50)


class Convolution(nn.Module):
    """The mean over the edges that come in (Hamilton et al. 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.own, self.others = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        total = torch.zeros_like(nodes).index_add_(0, target, nodes[source])
        count = nodes.new_zeros(nodes.shape[0]).scatter_add_(0, target, torch.ones_like(target, dtype=nodes.dtype))
        result: Tensor = self.own(nodes) + self.others(total / count.clamp(min=1)[:, None])
        return result


class Attending(nn.Module):
    """A softmax over the edges that come in (Velickovic et al. 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project, self.score = nn.Linear(inputs, outputs, bias=False), nn.Linear(2 * outputs, 1)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        nodes = self.project(nodes)
        source, target = edges[0], edges[1]
        scores = nn.functional.leaky_relu(self.score(torch.cat([nodes[source], nodes[target]], 1)), 0.2).squeeze(1)
        largest = scores.new_zeros(nodes.shape[0]).scatter_reduce(0, target, scores, "amax", include_self=False)
        weights = (scores - largest[target]).exp()
        total = weights.new_zeros(nodes.shape[0]).scatter_add(0, target, weights)
        weights = weights / (total[target] + 1e-16)
        index = target[:, None].expand(-1, nodes.shape[1])
        return torch.zeros_like(nodes).scatter_add(0, index, weights[:, None] * nodes[source])


class GraphNet(nn.Module):
    """``nodes`` (V, 8) and ``edges`` (2, E) -> a score for each of 4 kinds of each node."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.score = Convolution(8, 32), Attending(32, 32), nn.Linear(32, 4)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        hidden = self.first(nodes, edges).relu()
        hidden = nn.functional.elu(self.second(hidden, edges))
        scores: Tensor = self.score(hidden)
        return scores


def gnn() -> nn.Module:
    return seeded(GraphNet)
