"""What the processes of the pool run: plain functions of plain arguments."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from mmalign import distributed, registry
from mmalign.heads import Codebook, CodebookConfig, GaussianConfig, HeadSet
from mmalign.modality import Encoder
from mmalign.types import Features, Guide, Mixed, Tokens


@dataclass
class Trial:
    """One step of two linear towers on rows that lie on several processes."""

    objective: str
    counts: list[int]
    groups: list[int] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    pool: str = "gpo"  # of the Gaussian head
    reduce: int = 0  # tokens of both towers
    mixed: bool = False  # side a is made of two samples each
    guided: bool = False  # a frozen guide finds false negatives
    items: list[int] | None = None  # of side b, of each row


@dataclass
class Outcome:
    loss: Tensor
    gradients: dict[str, Tensor]
    inputs: tuple[Tensor, Tensor]


class Sets(Encoder):
    """Three vectors a sample, of which the first is always real; what each row holds says which others are."""

    def __init__(self, width: int) -> None:
        super().__init__(5, token_width=5, part_width=5)
        self.layer = nn.Linear(width, 15)

    def forward(self, inputs: dict[str, Tensor]) -> Features:
        tokens = torch.tanh(self.layer(inputs["rows"])).unflatten(1, (3, 5))
        mask = torch.stack([torch.ones_like(inputs["rows"][:, 0]), *inputs["rows"].T[:2]], 1) > 0
        vector = (tokens * mask[:, :, None]).sum(1)
        return Features(vector, Tokens(tokens, mask), Tokens(tokens[:, :2], mask[:, :2]))


class Ours(nn.Module):
    """Two towers with the heads that the objective needs, as the Aligner builds them."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.objective = registry.load("objectives", trial.objective)(**trial.arguments)
        more = {"gaussian": GaussianConfig(pool=trial.pool, initial=-1.0), "reduce": trial.reduce}
        self.a, self.b = Sets(5), Sets(3)
        self.head_a = HeadSet(self.a, 4, self.objective.tower_needs("a"), **more)
        self.head_b = HeadSet(self.b, 4, self.objective.tower_needs("b"), **more)
        codes = "codes" in self.objective.needs
        self.book = Codebook(4, CodebookConfig(codes=7, temperature=0.5, mode="learnt")) if codes else None

    def forward(
        self,
        a: Tensor,
        b: Tensor,
        groups: Tensor | None,
        mixed: Mixed | None = None,
        guide: Guide | None = None,
        owner: Tensor | None = None,
    ) -> Tensor:
        side_a = self.head_a(self.a({"rows": a}), "a", self.book)
        side_b = self.head_b(self.b({"rows": b}), "b", self.book)
        more = {"mixed": mixed, "guide": guide, "owner": owner}
        return self.objective(side_a, side_b, groups, **more).loss


class OpenClipDefault(nn.Module):
    """open_clip's loss with neither of its gather flags: what one gets without asking."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.a, self.b = nn.Linear(5, 4), nn.Linear(3, 4)
        for parameter in (*self.a.parameters(), *self.b.parameters()):
            nn.init.normal_(parameter, generator=generator)
        self.log_scale = nn.Parameter(torch.tensor([2.0]))
        self.loss = _open_clip_loss().ClipLoss(rank=distributed.rank(), world_size=distributed.world_size())

    def forward(self, a: Tensor, b: Tensor, groups: Tensor | None) -> Tensor:
        return self.loss(F.normalize(self.a(a), dim=1), F.normalize(self.b(b), dim=1), self.log_scale.exp())


def _open_clip_loss() -> ModuleType:
    # The file alone: importing the package would load torchvision and timm into each process.
    found = importlib.util.find_spec("open_clip")
    assert found is not None
    assert found.origin is not None
    spec = importlib.util.spec_from_file_location("open_clip_loss", Path(found.origin).with_name("loss.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def step(trial: Trial) -> Outcome:
    """Loss and every gradient of this process's rows, averaged as DDP does where there is a process group."""
    generator = torch.Generator().manual_seed(0)
    total = sum(trial.counts)
    items = [1] * total if trial.items is None else trial.items
    sizes = ((total, 5), (sum(items), 3))
    whole = [torch.randn(*size, generator=generator, dtype=torch.float64) for size in sizes]
    own = distributed.own_rows(trial.counts) if distributed.is_distributed() else slice(0, total)
    own_items = slice(sum(items[: own.start]), sum(items[: own.stop]))
    a, b = (side[part].to(trial.device).requires_grad_() for side, part in zip(whole, (own, own_items), strict=True))
    groups = None if trial.groups is None else torch.tensor(trial.groups, device=trial.device)[own]
    model = (OpenClipDefault() if trial.objective == "open_clip" else Ours(trial)).double().to(trial.device)
    trained = DistributedDataParallel(model) if distributed.is_distributed() else model
    if trial.items is not None:
        owner = torch.repeat_interleave(torch.tensor(items[own], dtype=torch.int64))
        loss = trained(a, b, groups, None, None, owner)
    elif trial.mixed:
        others = torch.arange(total).flip(0)
        weight = torch.rand(total, generator=generator, dtype=torch.float64)
        groups = torch.arange(total)[own] if groups is None else groups
        loss = trained(a, b, groups, Mixed(others[own], weight[own]))
    elif trial.guided:
        seen = [F.normalize(torch.randn(total, 3, generator=generator, dtype=torch.float64), dim=1) for _ in "ab"]
        loss = trained(a, b, groups, None, Guide(seen[0][own], seen[1][own], 0.1, 0.1))
    else:
        loss = trained(a, b, groups)
    loss.backward()
    gradients = {name: p.grad.cpu() for name, p in model.named_parameters() if p.requires_grad}
    return Outcome(loss.detach().cpu(), gradients, (a.grad.cpu(), b.grad.cpu()))


def step_on_own_gpu(trial: Trial) -> Outcome:
    """The same with this process's rows on the GPU of its rank."""
    torch.cuda.set_device(distributed.rank())
    trial.device = f"cuda:{distributed.rank()}"
    return step(trial)


def gather(counts: list[int]) -> dict[str, Any]:
    """Rows numbered through; the loss weighs each gathered row differently on each process."""
    me, own = distributed.rank(), distributed.own_rows(counts)
    rows = torch.arange(sum(counts) * 2, dtype=torch.float64).reshape(-1, 2)[own].requires_grad_()
    seen = distributed.row_counts(counts[me])
    gathered = distributed.gather_rows(rows)
    (gathered * (me + 1) * torch.arange(1, len(gathered) + 1)[:, None]).sum().backward()
    ids = distributed.gather_rows(torch.arange(sum(counts))[own], counts)
    return {"counts": seen, "gathered": gathered.detach(), "gradient": rows.grad, "ids": ids}


def merge(partials: list[list[float]]) -> dict[str, Tensor]:
    """Log-sum-exp over processes; each process answers for all of it with weight rank + 1."""
    mine = torch.tensor(partials[distributed.rank()], dtype=torch.float64, requires_grad=True)
    merged = distributed.merge_logsumexp(mine)
    (merged * (distributed.rank() + 1)).sum().backward()
    total = distributed.all_reduce_sum(mine.detach().exp())
    return {"merged": merged.detach(), "gradient": mine.grad, "total": total}
