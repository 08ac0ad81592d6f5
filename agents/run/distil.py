"""A smaller policy that learns to act as a trained one does (Rusu et al. 2016, Policy distillation, arXiv:1511.06295).

Half of the environments are the teacher's and half the student's, so that it learns on states of both: those where a
good policy is, and those to which its own mistakes lead (Ross et al. 2011, arXiv:1011.0686).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.acting.collector import TickCollector
from agents.acting.policies import ModelPolicy
from agents.acting.state import ActorState
from agents.core.algorithm import Algorithm
from agents.core.config import RolloutConfig
from agents.core.runtime import Runtime
from agents.core.tree import to_numpy
from agents.core.types import Act, Acted, Iteration, Obs, Tree
from agents.data.trajectory import Trajectory
from agents.learning.learner import Learner
from agents.networks.models import ActorCritic, QNetwork, QOutput
from agents.networks.parts import begin_with
from agents.ops.distributions import Categorical, lowest
from agents.ops.losses import mean
from agents.ops.relative import relative_entropy
from agents.run import loops
from agents.run.build import build
from agents.run.config import Layer, moved_to, resolve
from agents.run.models import LoadedPolicy, on_cpu
from agents.run.runner import train_out
from agents.run.summary import Summary
from agents.run.training import Training
from agents.run.transfer import ANEW, origin
from envs.errors import UserError
from envs.seeding import derive_seed

TICKS, EPOCHS, BATCH = 64, 4, 256  # of a rollout, over it, and transitions in a minibatch
LEAST_ENVS = 8
VALUE_COEF = 0.1  # weight of the values' error, which is measured in deviations of the teacher's
TEMPERATURE = 0.1  # of the softmax of action values, times how far the best is above the mean


def softened(q: Tensor, teacher_q: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities `[..., A]` that a student's and a teacher's action values stand for.

    The temperature is measured in what the teacher's best action is above the mean, over the batch.
    """
    least = lowest(teacher_q)
    legal = teacher_q > least / 2
    middle = torch.where(legal, teacher_q, 0.0).sum(-1) / legal.sum(-1).clamp(min=1)
    above = torch.where(legal.any(-1), teacher_q.amax(-1) - middle, 0.0)
    unit = temperature * above.mean().clamp(min=1e-6)
    mine, theirs = ((values / unit).clamp(min=least).log_softmax(-1) for values in (q, teacher_q))
    return mine, theirs


class Distilled(Algorithm):
    """Bring a student's distribution over actions, and its values, to those of a teacher.

    Args:
        student: whose model learns.
        teacher: of the same kind.
        config: of the learning.
    """

    config_class = RolloutConfig
    n_epochs, batch_size = EPOCHS, BATCH

    def __init__(self, student: Algorithm, teacher: nn.Module, config: RolloutConfig, temperature: float) -> None:
        super().__init__(config)
        self.model, self.policy, self.temperature = student.model, student.policy, temperature
        self._teacher: Any = (teacher,)  # no part of it, and so of no checkpoint

    def prepare(self, data: Trajectory, constants: dict[str, Tensor]) -> dict[str, Any]:
        return {"action": data.action}

    def loss(
        self, model: nn.Module, minibatch: dict[str, Any], constants: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        mine, theirs = minibatch.get("carry") or ((), ())
        obs, start, valid = minibatch["obs"], minibatch.get("start"), minibatch.get("valid")
        with torch.no_grad():
            wanted = self._teacher[0](obs, theirs, start)
        if isinstance(self.model, QNetwork):
            self.model.bring_bounds_up_to_date()
        found = model(obs, mine, start)
        if isinstance(found, QOutput):
            wanted = wanted._replace(q=self._teacher[0].choice(wanted))
            log_p, log_q = softened(found.q, wanted.q, self.temperature)
            apart, same = (
                relative_entropy(Categorical(log_q), Categorical(log_p)),
                found.q.argmax(-1) == wanted.q.argmax(-1),
            )
            value, goal = found.q.amax(-1), wanted.q.amax(-1)
        else:
            apart = relative_entropy(wanted.distribution, found.distribution)
            modes = [output.distribution.mode().reshape(*apart.shape, -1) for output in (found, wanted)]
            same = (modes[0] - modes[1]).abs().amax(-1) < 0.05
            value, goal = found.value.reshape(*apart.shape, -1)[..., 0], wanted.value.reshape(*apart.shape, -1)[..., 0]
        variance = mean((goal - mean(goal, valid)).square(), valid)
        kl, error = mean(apart, valid), mean((value - goal).square(), valid) / variance.clamp(min=1e-6)
        loss = torch.add(kl, error, alpha=VALUE_COEF)
        alike = mean(same.float(), valid)
        return loss, {"loss": loss.detach(), "kl": kl.detach(), "value_loss": error.detach(), "agreement": alike}


class Both:
    """A student and its teacher acting side by side, the first half of the environments moved by the student.

    Their carries and their noise lie one after the other; what a `TickCollector` needs of a policy.
    """

    stream = "policy"

    def __init__(self, student: ModelPolicy, teacher: ModelPolicy, num_envs: int) -> None:
        self._policies = student, teacher
        self._students = torch.arange(num_envs).numpy() < num_envs // 2
        self.recurrent, self.device = student.recurrent, student.device
        self._split = 0

    def initial_carry(self, num_envs: int) -> Tree:
        return tuple(policy.initial_carry(num_envs) for policy in self._policies) if self.recurrent else ()

    def draw_noise(self, shape: tuple[int, ...], progress: Any, generator: torch.Generator) -> tuple[Any, ...]:
        """Draw what each draws when its training is over."""
        drawn = [policy.draw_noise(shape, 1.0, generator) for policy in self._policies]
        flat = [noise if isinstance(noise, tuple) else (noise,) for noise in drawn]
        self._split = len(flat[0])
        return (*flat[0], *flat[1])

    def actor(self) -> Act:
        acts = [policy.actor() for policy in self._policies]

        def act(obs: Obs, carry: Tree, noise: Any) -> Acted:
            parts = noise[: self._split], noise[self._split :]
            carries = carry if self.recurrent else ((), ())
            acted = [
                one(obs, mine, part if len(part) > 1 else part[0])
                for one, mine, part in zip(acts, carries, parts, strict=True)
            ]
            action = self._chosen(*(to_numpy(each.action) for each in acted))
            env_action = self._chosen(*(to_numpy(each.env_action) for each in acted))
            return Acted(action, env_action, tuple(each.carry for each in acted) if self.recurrent else ())

        return act

    def _chosen(self, students: Any, teachers: Any) -> Any:
        """Return each environment's action."""
        found = teachers.copy()
        found[self._students] = students[self._students]
        return found


@dataclass(slots=True)
class DistilTraining(Training):
    """A training whose rollouts are learnt from by `Distilled`."""

    def iterations(self) -> Iterator[Iteration]:
        return loops.on_policy(self.collector, self.learner, self.algorithm.config)


def student_of(teacher: LoadedPolicy, settings: Sequence[Layer], steps: int, learning_rate: float) -> Training:
    """Build a student, which begins with those of the teacher's layers that it has too, and what it learns with.

    Args:
        settings: those in which it differs from the teacher, such as `net_arch`.

    Raises:
        UserError: they are no settings, or the two cannot be compared.
    """
    if not isinstance(teacher.policy.model, ActorCritic | QNetwork):
        raise UserError(
            f"{teacher.algo}: a policy and a value function, or action values, are distilled (bc, dqn, iql, "
            "ppo, pqn), and no other; python -m agents.prune makes any policy smaller"
        )
    if teacher.config.one_instance:
        raise UserError("teacher and student play side by side, and of this environment only one copy may run")
    teacher = on_cpu(teacher)
    before = teacher.config.model_dump(mode="json")
    own = ANEW | moved_to(teacher.config, "cpu") | {"total_timesteps": steps, "name": "distilled"}
    own["n_envs"] = max(before["n_envs"], LEAST_ENVS)
    if "bcq_threshold" in before:  # what the teacher never does it learns by itself
        own["bcq_threshold"] = 0.0
    config = resolve([Layer("teacher", before | own), *settings], packaged=False)
    built = build(config)
    model = built.algorithm.model
    if built.policy.recurrent != teacher.policy.recurrent or type(model) is not type(teacher.policy.model):
        raise UserError("a student is of its teacher's algorithm, and remembers if that does: leave algo and memory")
    rows = begin_with(model, teacher.policy.model.state_dict(), [], least=0)
    learning = RolloutConfig(
        total_timesteps=steps, n_envs=config.params.n_envs, n_steps=TICKS, learning_rate=f"lin_{learning_rate:g}"
    )
    algorithm = Distilled(built.algorithm, teacher.policy.model, learning, TEMPERATURE)
    env, seed = built.env, config.seed
    both: Any = Both(built.policy, teacher.policy, env.num_envs)
    noise = torch.Generator().manual_seed(derive_seed(seed, both.stream))
    actor = ActorState.begin(env, both, derive_seed(seed, "training"), noise)
    fields = {field.name: getattr(built, field.name) for field in dataclasses.fields(built)}
    fields |= {
        "algorithm": algorithm,
        "learner": Learner(algorithm, Runtime(), seed),
        "collector": TickCollector(env, both, actor, ticks=TICKS, schedule_steps=steps),
        "replay": None,
        "sampler": None,
        "place": None,
        "origin": origin("distillation", teacher.place, teacher, rows)
        | {"temperature": TEMPERATURE, "value_coef": VALUE_COEF, "learning_rate": learning.learning_rate},
    }
    return DistilTraining(**fields)


def distil(
    teacher: LoadedPolicy,
    settings: Sequence[Layer],
    *,
    steps: int,
    learning_rate: float = 1e-3,
    runs_dir: Path,
    quiet: bool = False,
) -> Summary:
    """Train a student of a policy, in a run folder of its own.

    Args:
        settings: in which it differs from the teacher, such as `net_arch`.
        steps: of all environments, those that the teacher moves too.

    Raises:
        UserError: as `student_of`; or something cannot be written.
    """
    training = student_of(teacher, settings, steps, learning_rate)
    return train_out(training, runs_dir, quiet)
