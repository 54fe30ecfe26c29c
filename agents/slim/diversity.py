"""What makes skills different: the LSD, METRA and DIAYN objectives as one interface.

phi maps features of the world to as many numbers as a skill has. LSD and METRA reward moving phi along z, with phi held
back from cheating in two ways: LSD by dividing every layer by its spectral norm, METRA by a constraint with a dual
variable. DIAYN rewards states from which the skill can be guessed.

Sources: LSD, Park et al., *Lipschitz-constrained Unsupervised Skill Discovery*, arXiv 2202.00914; METRA, Park et al.,
*Scalable Unsupervised RL with Metric-Aware Abstraction*, arXiv 2310.08887; DIAYN, Eysenbach et al., *Diversity is All
You Need*, arXiv 1802.06070; spectral normalisation, Miyato et al., arXiv 1802.05957.

Everything is drawn from generators that belong to the objective, so that a run can be continued bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from cadenza.agents.slim.skills import SkillPrior, Transitions
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name

LAMBDA_START = 30.0
"""METRA's first dual variable."""
SLACK = 1e-3
"""METRA's constraint may be satisfied by this much before it stops counting."""
_LOG_STD_RANGE = (-2.0, 1.0)
"""Of DIAYN's Gaussian. On a circle q could become as sharp as it likes, and its log without bound."""


class SpectralLinear(nn.Module):
    """A linear layer divided by its largest singular value: it never makes a distance longer.

    While training, one power iteration a pass follows the weight (arXiv 1802.05957, algorithm 1); :meth:`settle` finds
    the singular vectors exactly, so that what is rewarded keeps the bound up to rounding.
    """

    left: Tensor
    right: Tensor

    def __init__(self, in_size: int, out_size: int):
        super().__init__()
        linear = nn.Linear(in_size, out_size)
        self.weight, self.bias = linear.weight, linear.bias
        self.register_buffer("left", torch.zeros(out_size))
        self.register_buffer("right", torch.zeros(in_size))
        self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Set the singular vectors of the largest singular value."""
        left, _, right = torch.linalg.svd(self.weight, full_matrices=False)
        self.left.copy_(left[:, 0])
        self.right.copy_(right[0])

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.right.copy_(functional.normalize(self.weight.T @ self.left, dim=0))
                self.left.copy_(functional.normalize(self.weight @ self.right, dim=0))
        sigma = self.left.clone() @ self.weight @ self.right.clone()
        return functional.linear(x, self.weight / sigma, self.bias)


def network(sizes: Sequence[int], layer: Callable[[int, int], nn.Module] = nn.Linear) -> nn.Sequential:
    """Layers of the given sizes with ELU between them, whose slope is never above 1."""
    parts: list[nn.Module] = []
    for in_size, out_size in pairwise(sizes):
        parts += [layer(in_size, out_size), nn.ELU()]
    return nn.Sequential(*parts[:-1])


class DiversityObjective(nn.Module):
    """A reward for skills that can be told apart, and the network behind it.

    Args:
        feature_size: how many features of the world it sees.
        prior: what skills are drawn from.
        hidden: sizes of the hidden layers.
        learning_rate: of Adam.
        epochs, batch_size: passes over a rollout's transitions, and how many in one step.
        seed: of the first weights and of the order of the minibatches.
    """

    updates: Tensor
    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        feature_size: int,
        prior: SkillPrior,
        hidden: Sequence[int] = (256, 256),
        learning_rate: float = 1e-4,
        epochs: int = 4,
        batch_size: int = 256,
        seed: int = 0,
    ):
        super().__init__()
        self.feature_size, self.prior = feature_size, prior
        self.epochs, self.batch_size, self.seed = epochs, batch_size, seed
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        with torch.random.fork_rng(devices=[]):  # the policy's weights do not depend on which objective there is
            torch.manual_seed(seed)
            self._build([feature_size, *hidden])
        self.optimizer = torch.optim.Adam(self.parameters(), lr=learning_rate)
        self.eval()

    def _build(self, sizes: list[int]) -> None:
        raise NotImplementedError

    def rewards(self, before: Tensor, after: Tensor, skills: Tensor) -> Tensor:
        """The reward of each transition; (B, features) twice, (B, size) -> (B,)."""
        raise NotImplementedError

    def loss(self, before: Tensor, after: Tensor, skills: Tensor) -> tuple[Tensor, dict[str, float]]:
        """What training makes small, and what is worth logging."""
        raise NotImplementedError

    @torch.no_grad()
    def reward(
        self, before: NDArray[np.float32], after: NDArray[np.float32], skills: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The reward of each transition, shape (M,); arguments as in :class:`Transitions`."""
        return self.rewards(*self._tensors(Transitions(before, after, skills))).cpu().numpy()

    def update(self, transitions: Transitions) -> dict[str, float]:
        """Learn from a rollout's transitions; means over its minibatches of what is worth logging.

        Raises:
            CadenzaError: skills or features of another size.
        """
        self.train()
        before, after, skills = self._tensors(transitions)
        # The count makes each rollout's order another one, and is stored with the weights.
        generator = np.random.default_rng([self.seed, int(self.updates)])
        notes: dict[str, list[float]] = {}
        for _ in range(self.epochs):
            order = torch.from_numpy(generator.permutation(len(before))).to(before.device)
            for chosen in order.split(self.batch_size):
                loss, note = self.loss(before[chosen], after[chosen], skills[chosen])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                for name, value in {"loss": float(loss.detach()), **note}.items():
                    notes.setdefault(name, []).append(value)
        self.updates += 1
        self.settle()
        return {name: float(np.mean(values)) for name, values in notes.items()}

    def settle(self) -> None:
        """After an update: make the network exact again where training took a short cut, and leave training mode."""
        for module in self.modules():
            if isinstance(module, SpectralLinear):
                module.settle()
        self.eval()

    def _tensors(self, transitions: Transitions) -> tuple[Tensor, Tensor, Tensor]:
        self.prior.check(transitions.skills)
        for features in transitions[:2]:
            if features.shape[-1] != self.feature_size:
                raise CadenzaError(
                    f"This objective sees {self.feature_size} features; {features.shape[-1]} were given."
                )
        device = self.updates.device
        before, after, skills = (torch.as_tensor(array, device=device) for array in transitions)
        return before, after, skills


class LSD(DiversityObjective):
    """r = (phi(s') - phi(s))^T z with |phi(s') - phi(s)| <= |s' - s| (arXiv 2202.00914); loss -mean r."""

    layer: Callable[[int, int], nn.Module] = SpectralLinear

    def _build(self, sizes: list[int]) -> None:
        self.phi = network([*sizes, self.prior.size], type(self).layer)

    def steps(self, before: Tensor, after: Tensor) -> Tensor:
        """phi(s') - phi(s), (B, size); one pass for both, so that both are divided by the same singular values."""
        start, end = self.phi(torch.cat([before, after])).chunk(2)
        return end - start

    def rewards(self, before: Tensor, after: Tensor, skills: Tensor) -> Tensor:
        return (self.steps(before, after) * self.prior.directions(skills)).sum(1)

    def loss(self, before: Tensor, after: Tensor, skills: Tensor) -> tuple[Tensor, dict[str, float]]:
        return -self.rewards(before, after, skills).mean(), {}

    @torch.no_grad()
    def goal_skill(self, features: ArrayLike, goal: ArrayLike) -> NDArray[np.float32]:
        """The skill that leads from ``features`` to ``goal``: (phi(goal) - phi(s))/|.|, or the nearest one-hot.

        Both are features of the world, shape (features,); they have to differ.

        Raises:
            CadenzaError: another number of features, or phi cannot tell them apart.
        """
        both = [np.asarray(one, dtype=np.float32) for one in (features, goal)]
        if any(one.shape != (self.feature_size,) for one in both):
            raise CadenzaError(
                f"phi reads {self.feature_size} features of the world; {both[0].shape} and {both[1].shape} were given."
            )
        if not np.isfinite(both).all():
            raise CadenzaError(f"Features of the world must be finite: {both[0].tolist()}, {both[1].tolist()}.")
        pair = torch.as_tensor(np.array(both), device=self.updates.device)
        start, end = self.phi(pair)
        step = (end - start).cpu().numpy()
        length = float(np.linalg.norm(step))
        if not length > 0:
            raise CadenzaError("No skill leads there: the goal looks like the place where the object is.")
        if self.prior.discrete:
            return np.eye(self.prior.size, dtype=np.float32)[int(step.argmax())]
        return np.asarray(step / length, dtype=np.float32)


class METRA(LSD):
    """LSD's reward with a free phi under E c >= 0 (arXiv 2310.08887).

    c = 1 - mean_dim (phi(s') - phi(s))^2, clamped at +1e-3; loss -mean(r + lambda c), and lambda = exp(log_lambda)
    descends log_lambda * mean(c).
    """

    layer = nn.Linear

    def _build(self, sizes: list[int]) -> None:
        super()._build(sizes)
        self.log_lambda = nn.Parameter(torch.tensor(math.log(LAMBDA_START)))

    def loss(self, before: Tensor, after: Tensor, skills: Tensor) -> tuple[Tensor, dict[str, float]]:
        step = self.steps(before, after)
        reward = (step * self.prior.directions(skills)).sum(1)
        room = (1.0 - step.square().mean(1)).clamp(max=SLACK)
        dual = self.log_lambda.exp().detach()
        # Neither part has a gradient for the other's parameters, so one optimiser serves both.
        total = -(reward + dual * room).mean() + self.log_lambda * room.mean().detach()
        return total, {"lambda": float(dual), "constraint": float(room.mean().detach())}


class DIAYN(DiversityObjective):
    """r = log q(z|s') - log p(z) (arXiv 1802.06070): q is a Gaussian, or a softmax over one-hot skills.

    The Gaussian's deviation depends on the state and stays between e^-2 and e. It is a density over all of R^D, while
    p(z) is one over the circle: their difference is a reward all the same, up to a constant.
    """

    def _build(self, sizes: list[int]) -> None:
        self.discriminator = network([*sizes, self.prior.size * (1 if self.prior.discrete else 2)])

    def log_likelihood(self, after: Tensor, skills: Tensor) -> Tensor:
        """log q(z|s'), shape (B,)."""
        output = self.discriminator(after)
        if self.prior.discrete:
            return -functional.cross_entropy(output, skills, reduction="none")
        mean, log_std = output.chunk(2, 1)
        log_std = log_std.clamp(*_LOG_STD_RANGE)
        terms = -0.5 * ((skills - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
        return terms.sum(1)

    def rewards(self, before: Tensor, after: Tensor, skills: Tensor) -> Tensor:
        return self.log_likelihood(after, skills) - self.prior.log_density

    def loss(self, before: Tensor, after: Tensor, skills: Tensor) -> tuple[Tensor, dict[str, float]]:
        return -self.log_likelihood(after, skills).mean(), {}


OBJECTIVES: dict[str, type[DiversityObjective]] = {"lsd": LSD, "metra": METRA, "diayn": DIAYN}


def objective_class(name: str) -> type[DiversityObjective]:
    """The objective of a name; UnknownNameError with the nearest otherwise."""
    if name not in OBJECTIVES:
        raise unknown_name("diversity objective", name, OBJECTIVES)
    return OBJECTIVES[name]
