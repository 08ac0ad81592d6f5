"""Bugs to be planted: mistakes that others have made, and such as could be made here.

All of them let a training run to its end, and most of them let it learn something. A mistake that leaves every number
as it is belongs on no such list (a gradient through DQN's target, whose parameters are frozen and whose argmax has
none; a population's deviation for a sample's when advantages are normalised, which rounds away).
"""

from __future__ import annotations

from tests.mutation.planting import Bug

LIMITS = "Pardo et al. 2018, arXiv:1712.00378; SB3 issues 284 and 633; CleanRL issue 198"
DETAILS = "Huang et al. 2022, The 37 implementation details of PPO"
VECTOR = "stable-baselines issue 245: what a vector environment returns at an episode's end is the next one's beginning"
MATTERS = "Engstrom et al. 2020, Implementation matters, arXiv:2005.12729"
DEEP = "Henderson et al. 2018, Deep RL that matters, arXiv:1709.06560"
RELIABLE = "Agarwal et al. 2021, arXiv:2108.13264"


def _in(file: str, tests: str, *bugs: tuple[str, ...]) -> list[Bug]:
    return [Bug(file, tests, *bug) for bug in bugs]


BUGS = [
    *_in(
        "agents/core/by_numpy/program.py",
        "tests/core/test_numpy_program.py",
        (
            "self._last.update(dict.fromkeys([*given, *found], index))",
            "self._last.update(dict.fromkeys(found, index))",
            "by NumPy: memory is given away that a later operation reads",
        ),
        ("np.copyto(mine, given.numpy())", "mine.shape", "by NumPy: arguments stay those of the first call"),
        (
            "        return tree_map(torch.clone, self.result)\n\n\nclass Scan",
            "        return self.result\n\n\nclass Scan",
            "by NumPy: the next call overwrites results",
        ),
        (
            "if self._ends(tensor, index) and _alike",
            "if tensor.numel() and _alike",
            "by NumPy: an argument that is read again is overwritten",
        ),
    ),
    *_in(
        "agents/run/memory.py",
        "tests/run/test_memory.py",
        (
            "layout = layout_by(leaf, picture_axes)",
            'layout = layout_by(leaf, "auto")',
            "replay: frames of pictures are looked for along axes that are set otherwise",
        ),
    ),
    *_in(
        "agents/core/tracing.py",
        "tests/core/test_numpy_program.py",
        ("*given, *ctx.saved_tensors)", "*given)", "by NumPy: what a gradient needs is given away before"),
        (
            "function.used = [gradient is not None for",
            "function.used = [True for",
            "by NumPy: results without a gradient",
        ),
    ),
    *_in(
        "agents/core/by_numpy/arithmetic.py",
        "tests/core/test_numpy_program.py",
        ('"sub", "tanh"}', '"sub", "tanh", "where"}', "by NumPy: what is chosen from is overwritten"),
    ),
    *_in(
        "agents/lab/tuning/plan.py",
        "tests/lab/tuning/test_tune.py",
        ("if steps > most:", "if steps > 2 * most:", "a trial is better for being trained longer"),
    ),
    *_in(
        "agents/lab/tuning/population.py",
        "tests/lab/tuning/test_population.py",
        ("max(round(found), value + 1)", "round(found)", "population: a small whole number never changes"),
        ("key=worth, reverse=True)", "key=worth, reverse=False)", "population: the best go on from the worst"),
        (
            "trial.user_attrs[INTERVAL] >= behind - 1",
            "trial.user_attrs[INTERVAL] >= behind",
            "population: states are removed that others go on from",
        ),
        (
            "all(trial.state in ENDED for trial in own)",
            "True",
            "population: two workers train the same network",
        ),
    ),
    *_in(
        "agents/core/by_numpy/picking.py",
        "tests/core/test_numpy_program.py",
        ("index.dtype == bool", "index.dtype == object", "by NumPy: how many entries a condition picks is frozen"),
    ),
    *_in(
        "agents/core/by_numpy/arithmetic.py",
        "tests/core/test_numpy_program.py",
        (
            "partial(np.multiply, a, two, out=out)",
            "partial(np.copyto, out, a)",
            "by NumPy: tanh of many numbers is flat",
        ),
    ),
    *_in(
        "agents/core/by_numpy/program.py",
        "tests/core/test_numpy_program.py",
        (
            "partial(operation.func, *args, **named)",
            "partial(operation.func, *operation.args)",
            "by NumPy: PyTorch is called on memory that was given away",
        ),
    ),
    *_in(
        "agents/core/runtime.py",
        "tests/core/test_numpy_program.py",
        (
            "            if not repeats():\n                return otherwise(function)\n",
            "",
            "by NumPy: hooks and modules of others are left out",
        ),
    ),
    *_in(
        "agents/core/checked.py",
        "tests/core/test_numpy_program.py",
        (
            "shapes = tuple([(tensor.shape, tensor.dtype) for tensor in tensors_of(args)])",
            "shapes = ()",
            "by NumPy: one program for all sizes of minibatches",
        ),
    ),
    *_in(
        "agents/core/checked.py",
        "tests/core/test_runtime.py",
        (
            "            copy_into(state, before)\n            raise",
            "            raise",
            "a kernel that fails has changed the parameters",
        ),
    ),
    *_in(
        "agents/core/checked.py",
        "tests/core/test_runtime.py",
        ("            if wrong:\n", "            if False:\n", "a kernel that does something else is used"),
    ),
    *_in(
        "agents/run/distil.py",
        "tests/run/test_distil.py",
        (
            "wanted = wanted._replace(q=self._teacher[0].choice(wanted))",
            "",
            "distillation: actions that a teacher leaves out as unlikely are learnt",
        ),
        (
            "Categorical(log_q), Categorical(log_p)",
            "Categorical(log_q), Categorical(log_q)",
            "distillation: no gradient",
        ),
        ("students[self._students]", "teachers[self._students]", "distillation: the student sees its teacher's states"),
        (
            'minibatch.get("carry") or ((), ())',
            'minibatch.get("carry", ((), ()))[::-1] or ((), ())',
            "distillation: each has the other's memory",
        ),
        ("policy.draw_noise(shape, 1.0, generator)", "policy.draw_noise(shape, 0.0, generator)", "teacher explores"),
    ),
    *_in(
        "agents/run/prune.py",
        "tests/run/test_prune.py",
        ("return self.reached == self.sparsity", "return True", "pruning: the best model is one before it was pruned"),
        (
            "            state[each] = state[each][kept]",
            "            state[each] = state[each][:keep]",
            "pruning: other units go",
        ),
        ("[:, kept]", "[:, :keep]", "pruning: layers read other units than there are"),
        (
            "        self.algorithm.copy_model()\n        self.reached",
            "        self.reached",
            "pruning: targets keep all",
        ),
    ),
    *_in(
        "agents/ops/sparsity.py",
        "tests/ops/test_sparsity.py",
        ("rest = square.flip(0).cumsum(0).flip(0)", "rest = square.sum()", "pruning: small layers go first"),
        ("* out).topk(keep)", ").topk(keep)", "pruning: units that nothing reads are kept"),
    ),
    *_in(
        "agents/learning/parameters.py",
        "tests/learning/test_parameters.py",
        ("                view[where[name]] = 0.0", "                pass", "pruning: weights stay as they were"),
        ("                view[self._zeros[name]] = 0.0", "                pass", "pruning: weights grow again"),
    ),
    *_in(
        "agents/lab/export/int8.py",
        "tests/lab/export/test_int8.py",
        ("(weight / each).round()", "(weight / each)", "bytes: weights are cut off rather than rounded"),
        ("        y = y * self.scale", "        y = y * self.scale.mean()", "bytes: outputs share one factor"),
    ),
    *_in(
        "agents/lab/export/writer.py",
        "tests/lab/export/test_int8.py",
        (
            "if node.name in held and not node.users:",
            "if node.name in held and node.op == 0:",
            "export: weights of what does not act lie in the file",
        ),
    ),
    *_in(
        "agents/networks/parts.py",
        "tests/networks/test_parts.py",
        ("            parameter.requires_grad_(False)", "            pass", "transfer: what is frozen learns"),
        ("norm.frozen = all(each)", "norm.frozen = any(each)", "transfer: a normaliser of two parts stops with one"),
        ("            why = why or _misfit(", "            why = _misfit(", "transfer: half of a layer is loaded"),
        ('why = f"reset ({part})"', 'why = ""', "transfer: what is to be reset is loaded"),
        ('name.startswith(f"{part}.")', "name.startswith(part)", "transfer: a part is another that begins alike"),
    ),
    *_in(
        "agents/run/transfer.py",
        "tests/run/test_transfer.py",
        (
            "    training.algorithm.copy_model()\n\n\ndef _refuse_other",
            "\n\ndef _refuse_other",
            "set_parameters: a target network keeps the weights from before",
        ),
        ('name.endswith(ENDING) and not {"/"', 'name.endswith(ENDING) or not {"/"', "weights: a list leads elsewhere"),
    ),
    *_in(
        "agents/networks/target.py",
        "tests/run/test_transfer.py",
        ("    if not alike(target, model):", "    if True:", "set_parameters: an update reads a target that is gone"),
        ("    if tau == 1.0:", "    if False:", "a copied target keeps what was no number"),
    ),
    *_in(
        "agents/networks/normalize.py",
        "tests/networks/test_parts.py",
        ("if rows == 0 or self.frozen:", "if rows == 0:", "transfer: the statistics of a frozen part move on"),
    ),
    *_in(
        "agents/run/runner.py",
        "tests/run/test_transfer.py",
        (
            "            if folder is None:\n                begin(training)",
            "            begin(training)",
            "transfer: a resumed run needs, and loads, what it began with",
        ),
    ),
    *_in(
        "agents/run/build.py",
        "tests/run/test_transfer.py",
        ("set_scale(prefix, factor)", "set_scale(prefix, 1.0)", "transfer: parts learn at the rate of the rest"),
    ),
    *_in(
        "agents/ops/returns.py",
        "tests/ops/test_returns.py",
        (
            "gamma * (~terminated_TN)",
            "gamma * (~(terminated_TN | truncated_TN))",
            "GAE: a time limit counts as a termination",
            LIMITS,
        ),
        (
            "gae_lambda * (~(terminated_TN | truncated_TN))",
            "gae_lambda * (~terminated_TN)",
            "GAE: advantages of the next episode leak into one cut by a time limit",
            LIMITS,
        ),
        ("gamma * gae_lambda * (~(", "gae_lambda * (~(", "GAE: the recursion decays by lambda alone"),
        (
            "decay_TN)\n    return advantage_TN, advantage_TN + value_TN",
            "decay_TN)\n    return advantage_TN, advantage_TN + next_value_TN",
            "GAE: the return is that of the successor's value",
        ),
        (
            "gamma * power_K[last_B]",
            "gamma * power_K[-1]",
            "n-step: gamma to the power of n where the window is shorter",
            "n-step returns as often reimplemented",
        ),
        (
            "(terminated_BK | truncated_BK) | (steps_K",
            "terminated_BK | (steps_K",
            "n-step: rewards of the next episode are summed across a time limit",
            LIMITS,
        ),
        ("delta_TN, backward=True", "delta_TN", "GAE: on a GPU advantages are of what was before"),
        ("length_B[:, None] - 1", "length_B[:, None]", "n-step: a window goes one step beyond what is stored"),
    ),
    *_in(
        "agents/ops/losses.py",
        "tests/ops/test_losses.py",
        ("torch.minimum(", "torch.maximum(", "PPO: the larger of the two surrogates", DETAILS),
        (
            "advantage_B + clip_range * advantage_B.abs()",
            "advantage_B + clip_range * advantage_B",
            "PPO: ratios of negative advantages are clipped at the wrong end",
            DETAILS,
        ),
        (
            "mean(growth_B - log_ratio_B, valid_B)",
            "mean(-log_ratio_B, valid_B)",
            "approx_kl: the estimator that may be negative",
            "Schulman 2020, Approximating KL divergence",
        ),
        ("growth_B.abs() > clip_range", "growth_B > clip_range", "clip_fraction counts ratios that rose alone"),
        (
            "old_value_B + (value_B - old_value_B)",
            "return_B + (value_B - return_B)",
            "value clipping around the return instead of the old value",
            DETAILS,
        ),
        (
            "return (advantage_B - center) / (std + 1e-8)",
            "return advantage_B / (std + 1e-8)",
            "advantages are scaled, but not centred",
            DETAILS,
        ),
        ("/ valid_B.sum().clamp(min=1)", "/ valid_B.numel()", "means count dummy transitions as zeros"),
        (
            "- clip_range * advantage_B.clamp(max=0)",
            "- clip_range_high * advantage_B.clamp(max=0)",
            "PPO: with a bound of its own for rising ratios, falling ones have the same",
            "Yu et al. 2025, DAPO, arXiv:2503.14476",
        ),
        (
            "dual_clip * advantage_B.clamp(max=0)",
            "dual_clip * advantage_B",
            "PPO: dual clip raises the bound of good actions too",
            "Ye et al. 2020, arXiv:1912.09729, as often reimplemented",
        ),
        (
            "(growth_B < -clip_range)",
            "(growth_B < -clip_range_high)",
            "clip_fraction: falling ratios are held against the bound of rising ones",
        ),
        (
            "(kl > UNMOVED) & (kl < desired_kl / 2)",
            "(kl < desired_kl / 2)",
            "the learning rate rises before the first step, whatever the policy does",
        ),
    ),
    *_in(
        "agents/ops/distributions.py",
        "tests/ops/test_distributions.py",
        (
            "- self.log_std - 0.5 * math.log(2 * math.pi)).sum",
            "- 0.5 * math.log(2 * math.pi)).sum",
            "Gaussian: a density without its normalisation",
        ),
        (
            "Gaussian.log_prob(self, action) - _log_det(action)",
            "Gaussian.log_prob(self, action) + _log_det(action)",
            "tanh: the sign of the change of variables",
            "Haarnoja et al. 2018, arXiv:1801.01290, appendix C",
        ),
        (
            "return -(self.log_p.exp() * self.log_p).sum",
            "return (self.log_p.exp() * self.log_p).sum",
            "Categorical: the entropy is negative",
        ),
        (
            "math.log(2 * math.pi * math.e)",
            "math.log(2 * math.pi)",
            "Gaussian: the entropy lacks its half for each axis",
        ),
        (
            "torch.where(mask, values, lowest(values))",
            "torch.where(mask, values, 0.0)",
            "masks: the logit of an illegal action becomes 0",
            "Huang & Ontanon 2022, arXiv:2006.14171",
        ),
        (
            ".log_().neg_().log_().neg_()",
            ".log_().neg_().log_()",
            "Gumbel noise with the wrong sign, so that samples are not of the softmax",
            "the Gumbel-max trick as often reimplemented",
        ),
    ),
    *_in(
        "agents/ops/exploration.py",
        "tests/ops/test_exploration.py",
        ("> rank.clamp(", ">= rank.clamp(", "exploration: the action one rank too low, which may be illegal"),
        ("action = uniform * n", "action = uniform * (n - 1)", "exploration never takes the last action"),
    ),
    *_in(
        "agents/core/schedules.py",
        "tests/core/test_schedules.py",
        (
            "max(1.0 - progress, 0.0)",
            "min(progress, 1.0)",
            "schedules rise instead of falling, as SB3's argument is what remains of the progress",
            "SB3's progress_remaining",
        ),
        (
            "after // every - before // every if every",
            "int(after % every == 0) if every",
            "intervals are missed where steps grow by the number of environments",
            "SB3's eval_freq, which counts calls",
        ),
    ),
    *_in(
        "agents/core/tree.py",
        "tests/core/test_tree.py",
        ("leaf * ~start.view(", "leaf * start.view(", "memory: kept where an episode starts, lost elsewhere"),
    ),
    *_in(
        "agents/algos/ppo/algorithm.py",
        "tests/algos/test_ppo.py",
        ("torch.sub(loss, entropy", "torch.add(loss, entropy", "PPO: the entropy is punished", DETAILS),
        (
            "torch.add(surrogate, critic, alpha=config.vf_coef)",
            "torch.add(surrogate, critic)",
            "PPO: vf_coef has no effect on the loss",
        ),
        (
            "> 1.5 * self.config.target_kl",
            "> self.config.target_kl",
            "PPO: stops at target_kl instead of one and a half times that",
        ),
        ("optimizer_eps = 1e-5", "optimizer_eps = 1e-8", "PPO: Adam with PyTorch's epsilon", DETAILS),
        (
            "explained_variance(self._of_rewards(foretold), self._of_rewards(reached))",
            "explained_variance(self._of_rewards(reached), self._of_rewards(foretold))",
            "explained variance of the returns by themselves: arguments exchanged",
        ),
        (
            "self.reward_scale(reward, data.terminated | data.truncated, data.valid)",
            "self.reward_scale(reward, data.terminated, data.valid)",
            "norm_reward: discounted returns go on across a time limit",
            LIMITS,
        ),
    ),
    *_in(
        "agents/algos/ppo/algorithm.py",
        "tests/algos/test_ppo_details.py",
        (
            'value, old_value, return_ = scale.normalized(value), minibatch["scaled_value"], scale.normalized(return_)',
            "pass",
            "norm_value: the loss is that of values on their own scale, so that nothing is gained",
        ),
        (
            "self.model.learn_scale(value, return_, data.valid)",
            "self.model.learn_scale(value, reward, data.valid)",
            "norm_value: the scale is that of rewards instead of returns",
        ),
        (
            "self.rate.copy_(adapted_rate(self.rate,",
            "self.rate.clone().copy_(adapted_rate(self.rate,",
            "desired_kl: the learning rate that was reached is forgotten at each step",
        ),
        (
            "advantage = normalized(advantage, data.valid)",
            "advantage = normalized(advantage)",
            "advantages of a rollout are normalised with those of dummy transitions",
        ),
    ),
    *_in(
        "agents/algos/ppo/algorithm.py",
        "tests/algos/test_ppo_curiosity.py",
        (
            "alpha=self.config.intrinsic.curiosity_coef)",
            "alpha=1.0)",
            "curiosity: its advantages count as much as those of rewards, whatever is set",
        ),
        (
            "values if self.model.curiosity is None else values[..., 0]",
            "values if self.model.curiosity is None else values[..., 1]",
            "curiosity: rewards are judged by the values of what is new",
        ),
        (
            "return bonus, *continuing_gae(reward, value, last_value, *how, data.valid)",
            "return bonus, *gae(reward, value, next_value, *ends, *how)",
            "curiosity: its returns end with each episode, so that to die is to stop being rewarded",
            "Burda et al. 2018, arXiv:1810.12894, sec. 2.3",
        ),
        ('"next_obs": data.next_obs}', '"next_obs": data.obs}', "curiosity: learns what was left instead of reached"),
        (
            "if config.curiosity_episodic else torch.zeros_like(data.terminated)",
            "",
            "curiosity: the deviation is that of returns that end with the episode",
        ),
    ),
    *_in(
        "agents/algos/dqn/algorithm.py",
        "tests/algos/test_q_curiosity.py",
        (
            "seen = data.obs, data.action, data.next_obs",
            "seen = data.obs, data.action, data.obs",
            "curiosity: what DQN replays is as new as what it left",
        ),
        (
            "data._replace(return_=torch.add(data.return_, more, alpha=self.config.intrinsic.curiosity_coef))",
            "data",
            "curiosity: DQN learns what is new and is not rewarded for it",
        ),
        (
            "loss, learnt = add_learning(",
            "_, learnt = add_learning(",
            "curiosity: with DQN nothing becomes less new",
        ),
    ),
    *_in(
        "agents/networks/pretrained.py",
        "tests/networks/test_pretrained.py",
        (
            "if one != unknown]",
            "]",
            "sentence encoder: tokens that are not known have a part in the mean",
        ),
        (
            ".to(text.device)[which]",
            ".to(text.device)",
            "sentence encoder: texts get the vectors of others, those of their alphabetic order",
        ),
        (
            "if found is not None and not found.equal(self.checksum.to(found.device)):",
            "if found is None:",
            "sentence encoder: a model goes on with another one than it was trained with",
        ),
    ),
    *_in(
        "agents/algos/pqn/algorithm.py",
        "tests/algos/test_q_curiosity.py",
        (
            "reward = torch.add(reward, more, alpha=self.config.intrinsic.curiosity_coef)",
            "reward = torch.add(reward, more)",
            "curiosity: with PQN its rewards count as much as the environment's, whatever is set",
        ),
    ),
    *_in(
        "agents/networks/normalize.py",
        "tests/networks/test_curiosity.py",
        (
            "if self.gamma else reward_TN",
            "if self.gamma else reward_TN * 0 + 1",
            "curiosity: rewards of single transitions are not divided by their deviation",
        ),
    ),
    *_in(
        "agents/run/dry.py",
        "tests/run/test_dry.py",
        (
            'counted(model, *seen, call=getattr(model, "judge", None))',
            "counted(model, *seen)",
            "--dry-run leaves out what curiosity and critics compute",
        ),
    ),
    *_in(
        "agents/networks/curiosity.py",
        "tests/networks/test_curiosity.py",
        ("self.target.requires_grad_(False)", "self.target.eval()", "RND: the random network is trained too"),
        (
            "seen = self.whitened(next_obs)",
            "seen = self.whitened(obs)",
            "RND: the bonus is for the state that was left",
        ),
        (
            "predicted - then.detach()",
            "predicted - then",
            "ICM: features become all the same, which is easy to predict",
            "Burda et al. 2019, arXiv:1808.04355, sec. 2",
        ),
        (
            "self.beta * error - (1 - self.beta)",
            "(1 - self.beta) * error - self.beta",
            "ICM: the weights of the two models are exchanged",
            "Pathak et al. 2017, arXiv:1705.05363, eq. 7",
        ),
        (
            "bonus if valid is None else torch.where(valid, bonus, 0)",
            "bonus",
            "curiosity: transitions that an autoreset made up are rewarded",
        ),
        (
            "RunningNorm(self.numbers.features, CLIP)",
            "RunningNorm(self.numbers.features)",
            "curiosity: observations are clipped at 10 deviations",
            "Burda et al. 2018, arXiv:1810.12894, sec. 2.4",
        ),
        (
            "torch.arange(count, device=action.device) * rows // count",
            "torch.arange(count, device=action.device)",
            "curiosity: of sequences the first steps alone are learnt from",
        ),
    ),
    *_in(
        "agents/ops/returns.py",
        "tests/ops/test_returns.py",
        (
            "following_TN = torch.cat([value_TN[1:], last_value_N[None]])",
            "following_TN = torch.cat([value_TN[1:], value_TN[-1:]])",
            "returns that go on bootstrap from an observation that nothing follows",
        ),
        (
            ".flip(0).cummin(0).values.flip(0)[1:]",
            ".clamp(max=len(valid_TN))[1:]",
            "returns that go on skip what follows a row that is no step",
        ),
    ),
    *_in(
        "agents/acting/collector.py",
        "tests/algos/test_ppo_curiosity.py",
        (
            "self._finals = not successors or (policy.recurrent and not carries)",
            "self._finals = not successors",
            "memory: values of final observations are asked without what was remembered",
        ),
    ),
    *_in(
        "envs/api.py",
        "tests/acting/test_collector.py",
        (
            "return done if self.valid is None else done | ~self.valid",
            "return done",
            "collector: memory of the episode before is kept after a made-up transition",
        ),
    ),
    *_in(
        "agents/learning/optimizer.py",
        "tests/algos/test_ppo_details.py",
        (
            "1 - (1 - decay) * learning_rate",
            "decay",
            "AdamW: weights decay at the learning rate 1 where the rate follows the divergence",
        ),
    ),
    *_in(
        "agents/learning/learner.py",
        "tests/algos/test_ppo_details.py",
        (
            "*self.algorithm.buffers()]",
            "*self.algorithm.model.buffers()]",
            "captured: warming up moves the learning rate",
        ),
    ),
    *_in(
        "agents/networks/normalize.py",
        "tests/networks/test_normalize.py",
        ("~done_TN[:-1]])", "done_TN[:-1]])", "rewards: on a GPU the return goes on into the next episode"),
        (
            "(before * head.bias + was - self.mean) / self.deviation",
            "(before * head.bias) / self.deviation",
            "PopArt: values move with the mean of returns",
            "van Hasselt et al. 2016, arXiv:1602.07714, eq. 4 to 6",
        ),
        (
            "head.weight *= (before / self.deviation)[:, None]",
            "head.weight *= (self.deviation / before)[:, None]",
            "PopArt: weights are scaled the wrong way round",
            "van Hasselt et al. 2016, arXiv:1602.07714, eq. 4 to 6",
        ),
        (
            "var - self.var + (1 - share) * moved.square()",
            "var - self.var",
            "norm_value: the deviation knows nothing of a mean that moves",
        ),
    ),
    *_in(
        "agents/algos/dqn/algorithm.py",
        "tests/algos/test_dqn.py",
        (
            'self.model.choice(self._look(model, "online", minibatch, noise["choice"], ahead=True))',
            "self.model.choice(after)",
            "Double DQN: the target network chooses the action that it judges",
            "van Hasselt et al. 2016, arXiv:1509.06461",
        ),
        (
            "if crossings(before, after, self.config.target_update_interval)",
            "if after % self.config.target_update_interval == 0",
            "DQN: the target's updates are missed where steps grow by the number of environments",
            "SB3's target_update_interval, which counts calls",
        ),
        (
            'leaf[minibatch["last"]], output) if ahead',
            "leaf, output) if ahead",
            "memory: returns of n steps bootstrap from the first successor",
        ),
        (
            "network.remember(before[0], data.carry, before[1])",
            "data.carry",
            "memory: what was stored is taken for what is remembered after the burn-in",
            "Kapturowski et al. 2019, R2D2, sec. 3",
        ),
    ),
    *_in(
        "agents/networks/layers.py",
        "tests/networks/test_models.py",
        ("self.weight @ self.v, dim=0", "self.u, dim=0", "spectral norm: the iteration stands still"),
    ),
    *_in(
        "agents/networks/models.py",
        "tests/algos/test_dqn.py",
        (
            "self.memory(x, restarted(carry, begins))",
            "self.memory(x, carry)",
            "memory: successors are judged with what is remembered of the episode before",
        ),
    ),
    *_in(
        "agents/algos/sac/algorithm.py",
        "tests/algos/test_sac.py tests/probes/test_probes.py",
        (
            "after, -coef * next_log_prob)",
            "after, 0 * next_log_prob)",
            "SAC: targets without the entropy",
            "Haarnoja et al. 2018, arXiv:1812.05905, eq. 3",
        ),
        ("drawn, frozen=True)", "drawn)", "SAC: the policy's loss trains the critics to flatter it"),
        ("-log_coef * (log_prob", "log_coef * (log_prob", "SAC: the weight of the entropy runs away from its target"),
        (
            "log_coef.detach().exp()",
            "log_coef.exp()",
            "SAC: the policy's loss lowers the weight of the entropy",
        ),
        (
            "self.config.replay.learning_starts / self.config.schedule_steps",
            "config.replay.learning_starts / config.schedule_steps",
            "SAC: after a longer budget actions stay random for ever",
        ),
        (
            "self.model.critics(*joined, batch=True, learn=True)",
            "self.model.critics(*joined, batch=True)",
            "CrossQ: the running statistics stay as they begin",
        ),
        (
            'joined = _joined(data["obs"], data["action"], data["next_obs"], next_action)',
            'joined = data["obs"], data["action"]',
            "CrossQ: the running statistics know nothing of the next states",
        ),
        ("return taken, after.detach()", "return taken, after", "CrossQ: targets have a gradient"),
    ),
    *_in(
        "agents/ops/critics.py",
        "tests/ops/test_critics.py",
        ("numbers_NBK.squeeze(-1).amin(0)", "numbers_NBK.squeeze(-1).mean(0)", "SAC: the mean critic counts"),
        (
            "next_NBK.transpose(0, 1).flatten(1).sort(-1).values",
            "next_NBK.sort(-1).values.transpose(0, 1).flatten(1)",
            "TQC: whole critics are left out rather than the largest quantiles of all",
        ),
    ),
    *_in(
        "agents/networks/layers.py",
        "tests/networks/test_soft.py",
        (
            "if frozen else (self.weight, self.bias)\n        return torch.baddbmm",
            "if False else (self.weight, self.bias)\n        return torch.baddbmm",
            "frozen critics are trained",
        ),
    ),
    *_in(
        "agents/ops/distributions.py",
        "tests/ops/test_distributions.py",
        (
            "self._log_prob_of_noise(noise) - _log_det(action)",
            "self._log_prob_of_noise(noise)",
            "SAC: the density of the action before it is squashed",
        ),
    ),
    *_in(
        "agents/acting/policies.py",
        "tests/algos/test_sac.py",
        ("torch.erf(normal * math.sqrt(0.5))", "torch.erf(normal)", "SAC: the random beginning prefers the bounds"),
    ),
    *_in(
        "agents/networks/target.py",
        "tests/algos/test_dqn.py",
        (
            "target.parameters, model.parameters, tau)",
            "target.parameters, model.parameters, 1 - tau)",
            "target networks: tau is the share that the target keeps",
            "Lillicrap et al. 2016's tau and others' polyak, which are each other's complement",
        ),
        (
            "target.share_statistics(model)",
            "target.train(False)",
            "target networks: a target normalises by statistics of its own, which never change",
        ),
        ("mine.copy_(theirs)", "theirs.copy_(mine)", "target networks: their buffers overwrite the online network's"),
    ),
    *_in(
        "agents/acting/collector.py",
        "tests/acting/test_collector.py",
        (
            "tree_map(lambda leaf: leaf[rows], step.next_obs)",
            "tree_map(lambda leaf: leaf[rows], step.obs)",
            "collector: bootstraps from the next episode's first observation",
            VECTOR,
        ),
        (
            'row["next_obs"] = step.next_obs',
            'row["next_obs"] = step.obs',
            "collector: the next episode's first observation goes to the replay buffer as successor",
            VECTOR,
        ),
        (
            "carry = restarted(carry, to_tensor(step.starts, self._device))",
            "carry = restarted(carry, to_tensor(step.terminated, self._device))",
            "collector: memory goes on across a time limit",
            "episode_starts of recurrent PPO",
        ),
        (
            "start=to_tensor(start[:-1], self._device)",
            "start=to_tensor(start[1:], self._device)",
            "collector: episodes seem to start one step early",
            "episode_starts of recurrent PPO",
        ),
        (
            "self._final(t, step, carry)",
            "self._final(t, step, state.carry)",
            "collector: a final observation is looked at with the rollout's first memory",
        ),
        (
            "* ticks if valid is None else valid.sum(axis=1).tolist()",
            "* ticks",
            "collector: transitions that an autoreset made up count as steps",
            "Gymnasium issue 1451, of its autoreset on the next step",
        ),
    ),
    *_in(
        "agents/acting/evaluation.py",
        "tests/acting/test_evaluation.py",
        (
            "< episodes % env.num_envs)",
            "<= episodes % env.num_envs)",
            "evaluation: one episode more than was asked for",
        ),
        (
            "None if deterministic else policy_generator(policy, seed))\n    limit",
            "policy_generator(policy, seed))\n    limit",
            "evaluation: deterministic=True samples all the same",
            DEEP,
        ),
        (
            "player.start(done if valid is None else done | ~valid)",
            "player.start(done & False)",
            "evaluation: memory goes on into the next episode",
            "episode_start of SB3-contrib's recurrent predict",
        ),
        (
            "played.append((return_, length, step.infos.get(index, {})))",
            "played.append((return_ / length, length, step.infos.get(index, {})))",
            "evaluation: mean rewards of steps instead of returns",
        ),
    ),
    *_in(
        "agents/acting/state.py",
        "tests/acting/test_state.py",
        ("self.returns[done] = 0", "self.returns[~done] = 0", "returns go on into the next episode"),
        (
            "np.add.reduce(reward, axis=0, dtype=np.float64)",
            "np.add.reduce(reward, axis=0)",
            "returns of long episodes are summed in float32",
        ),
    ),
    *_in(
        "agents/acting/policies.py",
        "tests/algos/test_dqn.py",
        ("explore = coin < epsilon", "explore = coin > epsilon", "epsilon is the chance to be greedy"),
        (
            "progress / self._fraction",
            "progress",
            "epsilon falls over the whole training whatever exploration_fraction says",
        ),
    ),
    *_in(
        "agents/acting/policies.py",
        "tests/acting/test_policies.py tests/algos/test_ppo.py",
        (
            "self.model.value(tree_map(lambda leaf: leaf[cut], trajectory.next_obs))",
            "self.model.value(tree_map(lambda leaf: leaf[cut], trajectory.obs))",
            "PPO: bootstraps from the last observation instead of its successor",
            LIMITS,
        ),
        (
            "torch.cat([value[1:], last[None]])",
            "torch.cat([value[1:], value[-1:]])",
            "PPO: the rollout's last value instead of that of what follows",
            DETAILS,
        ),
    ),
    *_in(
        "agents/acting/policies.py",
        "tests/acting/test_masks.py",
        (
            "action = masked(parameters, mask).argmax(-1)",
            "action = masked(parameters, None).argmax(-1)",
            "DQN: a greedy action may be illegal",
        ),
    ),
    *_in(
        "agents/acting/fused.py",
        "tests/acting/test_fused.py",
        (
            "obs, returns, lengths = following, returns",
            "obs, returns, lengths = next_obs, returns",
            "fused: acts on the last episode's final observation",
            VECTOR,
        ),
    ),
    *_in(
        "agents/acting/numpy_inference.py",
        "tests/acting/test_numpy_inference.py",
        (
            "self._run(to_tensor(obs, cpu), *tree_to_tensor(noise, cpu))",
            "self._run(to_tensor(obs, cpu))",
            "acting by NumPy: noisy layers explore no more",
        ),
        (
            "        with self._one_at_a_time:\n",
            "        if True:\n",
            "acting by NumPy: threads write over one another",
        ),
        (
            "suits_numpy(model) or not hasattr",
            "hasattr(model, 'none') or not hasattr",
            "acting by NumPy: hooks are left out",
        ),
    ),
    *_in(
        "agents/acting/policies.py",
        "tests/acting/test_numpy_inference.py",
        (
            "            self._watch.train(False)  # training mode",
            "            pass  # training mode",
            "acting by NumPy: each rollout notes anew what the model does, in training mode",
        ),
    ),
    *_in(
        "agents/run/build.py",
        "tests/run/test_build.py",
        (
            "threads == 1 or numbers < (MANY_COMPILED",
            "threads == 1 or 0 and numbers < (MANY_COMPILED",
            "two threads: NumPy is left out for small arrays too",
        ),
        (
            "return rows * max([*layers, *pairs])",
            "return rows * max(layers)",
            "two threads: pairs of quantiles go to NumPy",
        ),
    ),
    *_in(
        "agents/core/by_numpy/sums.py",
        "tests/core/test_numpy_program.py",
        ("a.shape[-1] >= SHARED", "a.shape[-1] >= 0", "two threads: small products are handed to PyTorch"),
    ),
    *_in(
        "agents/acting/numpy_inference.py",
        "tests/acting/test_numpy_inference.py",
        ("/ np.sqrt(var + np.float32(1e-8))", "/ (var + np.float32(1e-8))", "NumPy: divides by the variance"),
    ),
    *_in(
        "agents/data/replay.py",
        "tests/data/test_replay.py",
        (
            "torch.randint(self._level[1] * self.num_envs, (count,)",
            "torch.randint(self.rows * self.num_envs, (count,)",
            "replay: draws rows that were never written",
            "replay buffers that draw up to their capacity",
        ),
        (
            "(head - 1 - index // self.num_envs) % self.rows + 1",
            "(head - index // self.num_envs) % self.rows + 1",
            "replay: n-step windows go on across the write head",
            "n-step returns as often reimplemented",
        ),
        (
            "rows = writer(self.head)[columns] - 1",
            "rows = writer(self.head)[columns] % self.rows",
            "replay: a cut marks the oldest transition instead of the newest",
        ),
        ("flat, right=True)", "flat, right=False)", "replay: a column too early where columns are filled unevenly"),
        (
            "self._size.copy_(size)",
            'self._size.copy_(state["head"])',
            "replay: a full buffer is loaded as one filled up to its head",
        ),
    ),
    *_in(
        "agents/data/batch.py",
        "tests/data/test_replay.py",
        (
            'take("next_obs", last), index)',
            'take("next_obs", index), index)',
            "replay: n-step bootstraps from the first successor",
        ),
        (
            '~take("terminated", index) * gamma',
            '~(take("terminated", index) | take("truncated", index)) * gamma',
            "replay: a time limit counts as a termination",
            LIMITS,
        ),
    ),
    *_in(
        "agents/data/frames.py",
        "tests/data/test_frames.py",
        (
            "known = same_rows(before, self._last_rows[columns])",
            "known = np.ones(len(columns), bool)",
            "frames: a stack goes on across the start of an episode",
            "buffers that stack frames by index alone",
        ),
        (
            "(self._head[columns] + more - oldest > self._size)",
            "(self._head[columns] + more - oldest > 2 * self._size)",
            "frames: a stack reaches beyond the write head",
        ),
        (
            "following[:, :-1] = counts[:, 1:]",
            "following[:, :-1] = counts[:, :-1]",
            "frames: a successor has the frames of its predecessor",
        ),
        (
            "counts >= head[:, None]",
            "counts > head[:, None] + 10**10",
            "frames: a file may name frames that are not there",
        ),
    ),
    *_in(
        "agents/data/replay.py",
        "tests/data/test_frames.py",
        (
            "row = (row + torch.where(self.size < self.rows, self.head - self.size, 0)[column]) % self.rows",
            "row = row % self.rows",
            "replay: what was forgotten is drawn",
        ),
        (
            "rows = (head[column] - 1 - kept[column]",
            "rows = (head[column] - kept[column]",
            "replay: of what was forgotten, the wrong ones are told to samplers",
        ),
    ),
    *_in(
        "agents/data/samplers.py",
        "tests/data/test_frames.py",
        (
            "torch.where(self._replay.holds(written), priority, 0)",
            "priority",
            "prioritised replay: what was forgotten is drawn",
        ),
    ),
    *_in(
        "agents/core/chunks.py",
        "tests/run/test_replay_files.py",
        (".max() > then)", ".max() > then + 1)", "checkpoints: a chunk that has changed is not written again"),
        (
            "self._written[start // GRAIN : (stop - 1) // GRAIN + 1]",
            "self._written[start // GRAIN : max((stop - 1) // GRAIN, start // GRAIN + 1)]",
            "checkpoints: changes at the end of a chunk are overlooked",
        ),
    ),
    *_in(
        "agents/run/trees.py",
        "tests/run/test_replay_files.py",
        (
            "if not whole or hashlib.sha256(array).hexdigest() != digest:",
            "if not whole:",
            "checkpoints: an altered part is believed",
        ),
    ),
    *_in(
        "agents/data/batch.py",
        "tests/data/test_samplers.py",
        (
            "(terminated | truncated)[:, :-1]",
            "terminated[:, :-1]",
            "sequences: what is remembered goes on across a time limit",
            LIMITS,
        ),
        (
            "(length - steps).clamp(max=n_step_returns).repeat(len(index))",
            "(length - steps).clamp(max=n_step_returns).repeat_interleave(len(index))",
            "sequences: the steps left of one are taken for another's",
        ),
    ),
    *_in(
        "agents/ops/values.py",
        "tests/ops/test_values.py",
        (
            ".clamp(0, self.atoms - 1)",
            ".clamp(0, self.atoms)",
            "C51: the mass of the largest return is lost to rounding",
            "C51 implementations that lose mass where a return falls on an atom",
        ),
        (
            "(tau[..., None] - (error_BKJ < 0).to(tau.dtype))",
            "(tau[..., None] - (error_BKJ > 0).to(tau.dtype))",
            "quantiles: the loss is that of the opposite ones",
            "Dabney et al. 2017, arXiv:1710.10044, eq. 8",
        ),
        (
            "(weight_BKJ * huber_BKJ).mean(-1).sum(-1)",
            "(weight_BKJ * huber_BKJ).sum(-1).mean(-1)",
            "quantiles: a mean over quantiles and a sum over targets",
        ),
        ("torch.where(pi > 0, -temperature * log_pi, 0)", "-temperature * log_pi", "illegal actions add entropy"),
        ("q_BA.logsumexp(-1) -", "q_BA.mean(-1) -", "CQL: the mean value is kept small", "Kumar et al. 2020, eq. 4"),
    ),
    *_in(
        "agents/data/samplers.py",
        "tests/data/test_samplers.py tests/data/test_replay.py",
        ("lambda: replay.version", "lambda: 0", "by NumPy: batches are of memory that is the buffer's no more"),
        (
            ".le_(part)",
            ".lt_(part)",
            "prioritised replay: what has no priority is drawn where a random number is 0",
        ),
        (
            "priority.amin()).pow_(-beta)",
            "priority.amin()).pow_(beta)",
            "prioritised replay: what is drawn often counts more",
            "Schaul et al. 2016, arXiv:1511.05952, sec. 3.4",
        ),
        (
            "(priorities + self._eps) ** self._alpha",
            "priorities**self._alpha",
            "prioritised replay: what has no error is never drawn again",
            "Schaul et al. 2016, sec. 3.3",
        ),
        (
            "self._largest.expand(len(written))",
            "torch.ones(len(written))",
            "prioritised replay: new transitions begin at 1 whatever the others have",
            "Schaul et al. 2016, algorithm 1",
        ),
        (
            "if self._n_step_returns > 1 else None",
            "if self._n_step_returns > 2 else None",
            "replay: two steps are summed as one",
        ),
        (
            "self._replay.length(index) >= self._length)",
            "self._replay.length(index) >= self._length - 1)",
            "sequences go on across the write head",
        ),
        (
            " & self._replay.holds(index)",
            "",
            "sequences begin before anything was stored",
        ),
        (
            "self._eta * errors.amax(0) + (1 - self._eta) * errors.mean(0)",
            "errors.mean(0)",
            "a sequence's priority is the mean of its errors alone",
            "Kapturowski et al. 2019, R2D2, sec. 2.3",
        ),
    ),
    *_in(
        "agents/learning/parameters.py",
        "tests/learning/test_parameters.py",
        (
            "(norm + 1e-6)).clamp(max=1.0)",
            "(norm + 1e-6))",
            "clipping: small gradients are scaled up to the norm",
            "gradients normalised instead of clipped",
        ),
    ),
    *_in(
        "agents/learning/learner.py",
        "tests/learning/test_learner.py tests/learning/test_modules.py tests/algos/test_ppo.py",
        ("return -(-rows // size)", "return rows // size", "minibatches: the rest makes the others larger than asked"),
        (
            "[torch.randperm(rows, generator=self.shuffling) for _ in range(epochs)]",
            "[torch.randperm(rows, generator=self.shuffling)] * epochs",
            "minibatches: the same ones in each epoch",
            DETAILS,
        ),
        (
            "return _gathered(found), len(found) - 1",
            "return _gathered(found), len(found)",
            "early stop: counts the step that was not taken",
        ),
        (
            "self.parameters.train(False)",
            "self.parameters.train(True)",
            "acting with dropout, as the network is left in training mode",
            "a forgotten model.eval()",
        ),
        (
            "gradient if max_norm is None else clipped(gradient, norm, max_norm)",
            "gradient",
            "max_grad_norm has no effect",
            DETAILS,
        ),
    ),
    *_in(
        "agents/learning/optimizer.py",
        "tests/learning/test_optimizer.py",
        (
            "self.eps * root, decay)",
            "self.eps, decay)",
            "Adam: epsilon added before the bias correction",
            "TensorFlow's Adam, whose epsilon is the paper's epsilon hat",
        ),
        ("scale = root / (1 - 0.9**steps)", "scale = root", "Adam: the mean's bias is not corrected"),
        (
            "decay = 1 - 0.01 * learning_rate",
            "decay = 1 - 0.01",
            "AdamW: weight decay that does not follow the learning rate",
            "Loshchilov & Hutter 2019, arXiv:1711.05101",
        ),
        ("rate = rate * scale", "rate = rate * 1.0", "frozen parameters (a factor of 0) are stepped"),
    ),
    *_in(
        "agents/networks/normalize.py",
        "tests/networks/test_normalize.py",
        (
            "return ((x - self.mean) * (self.var + 1e-8).rsqrt())",
            "self.update(x)\n        return ((x - self.mean) * (self.var + 1e-8).rsqrt())",
            "normalisation: statistics change while acting and evaluating",
            "SB3's VecNormalize with training=True in evaluations",
        ),
        ("delta * (delta * (1 - share))", "delta.square()", "normalisation: the variance of two parts is too large"),
        (
            "(self.var + 1e-8).rsqrt()).clamp(-self.clip, self.clip)",
            "(self.var + 1e-8).rsqrt())",
            "normalisation: observations are not clipped",
            DETAILS,
        ),
        (
            "running_N = running_N * ~done_TN[t]",
            "running_N = running_N * 1.0",
            "norm_reward: the discounted return goes on into the next episode",
            "VecNormalize as often reimplemented",
        ),
        (
            "return_TN[valid_TN]",
            "return_TN.flatten()",
            "norm_reward: made-up transitions count in the statistics",
            "Gymnasium issue 1451",
        ),
        (
            "(self.statistics.var + 1e-8).rsqrt()",
            "(reward_TN.var() + 1e-8).rsqrt()",
            "norm_reward: scales by the deviation of rewards instead of returns",
            MATTERS,
        ),
    ),
    *_in(
        "agents/networks/pictures.py",
        "tests/networks/test_pictures.py tests/networks/test_encoders.py",
        (
            "if self.shifted else x) * self.factor",
            "if self.shifted else x)",
            "pictures are not scaled to [0, 1]",
            DETAILS,
        ),
        (
            "x = x.permute(0, *(axis for axis in range(1, x.dim()) if axis not in sides), *sides)",
            "x = x.reshape(len(x), *(x.shape[i] for i in range(1, x.dim()) if i not in sides), "
            "*(x.shape[i] for i in sides))",
            "pictures: axes reshaped instead of permuted",
            "PyTorch's channels first, as often reimplemented",
        ),
    ),
    *_in(
        "agents/networks/cells.py",
        "tests/networks/test_memory.py",
        (
            "begins = start.t().clone()",
            "begins = torch.zeros_like(start.t())",
            "memory: sequences are learnt from across the start of an episode",
            DETAILS,
        ),
        (
            "carry = restarted(carry, start[0])",
            "carry = carry + 0",
            "memory: a sequence that begins an episode goes on with what was remembered before",
        ),
        (
            "carry[at[carried] // steps]",
            "carry",
            "memory: runs of several lengths go on from the memory of other environments",
        ),
        (
            "x.new_tensor([[-SHUT, SHUT, 0.0, 0.0], ",
            "x.new_tensor([[0.0, 0.0, 0.0, 0.0], ",
            "LSTM: made-up steps after the last one are remembered",
        ),
        (
            "[-SHUT, -SHUT, 0.0, 0.0]])",
            "[-SHUT, 0.0, 0.0, 0.0]])",
            "LSTM: an episode goes on with some of the cell state of the one before",
        ),
    ),
    *_in(
        "agents/acting/numpy_cells.py",
        "tests/acting/test_numpy_inference.py",
        ("gates[:, :size] * of_hidden[:, 2 * size :]", "of_hidden[:, 2 * size :]", "NumPy's GRU never resets"),
    ),
    *_in(
        "agents/lab/tuning/study.py",
        "tests/lab/tuning/test_study.py",
        (
            "if trial.state is TrialState.RUNNING and self.is_dead(",
            "if False and self.is_dead(",
            "search: the trial of a killed worker is lost",
        ),
        (
            "not in (ABANDONED, UNFIT)]",
            "not in (UNFIT,)]",
            "search: what a killed worker left counts, and its second try counts again",
        ),
        ("if whole < end:", "if False:", "search: a torn line is followed by whole ones, and the study is lost"),
        (
            "plan.refuse_other(self.plan, folder)",
            "pass",
            "search: trials with other settings beneath are put beside these",
        ),
    ),
    *_in(
        "agents/lab/tuning/winners.py",
        "tests/lab/tuning/test_winners.py",
        (
            "whole = _flat(plan.config(values, 0))",
            "whole = _flat(plan.config(values, 0)) | {n: packaged[n] for n in plan.base if n not in values}",
            "search: what is beneath the trials is lost in the files of settings",
        ),
        (
            'document |= {"env_kwargs": plan.base["env_kwargs"]} if plan.base["env_kwargs"] else {}',
            "document |= {}",
            "search: files of settings lack the environment's arguments",
        ),
        (
            'for name, value in plan.base["env_kwargs"].items())',
            "for name, value in ())",
            "search: the best are trained again in another environment",
        ),
        (
            "[side_of(side.label) for side in tasks[0].sides if side.label in task.runs]",
            "[side_of(label) for label in task.runs]",
            "search: the best of an earlier call is chosen from",
        ),
        ("holm([p[label] for label in trials])", "[p[label] for label in trials]", "search: the luck of many counts"),
        ("goal = plan.threshold if plan", "goal = None if plan", "search: the least time is judged by returns"),
        (
            "for trial in study.trials if best",
            "for trial in study.best(1) if best",
            "search: a trial that is no longer among the best is not found",
        ),
        ("if side.label in NAMES:", "if side.label == OURS:", "search: what it began with is not compared"),
        ("if _fits(tasks, place))", "if place)", "search: runs of other settings end it after all its work"),
    ),
    *_in(
        "agents/lab/tuning/trial.py",
        "tests/lab/tuning/test_tune.py",
        (
            "[fmean(point.seconds for point in last)] if reached else None",
            "[fmean(point.seconds for point in last)]",
            "search: what stops early without reaching the threshold is quickest",
        ),
        (
            "if plan.may_give_up and trial.should_prune():",
            "if False:",
            "search: nothing is given up",
        ),
    ),
    *_in(
        "agents/lab/tuning/space.py",
        "tests/lab/tuning/test_space.py",
        (
            "if name not in idle(kind, {**base, **values}):",
            "if True:",
            "search: settings of parts that are not in use are drawn",
        ),
        (
            "found[name] = dimension.widened(name, base[name])",
            "found[name] = dimension",
            "search: the settings that it begins with lie outside of it",
        ),
    ),
    *_in(
        "agents/lab/tuning/plan.py",
        "tests/lab/tuning/test_tune.py",
        (
            '"seed": FIRST_SEED + seed}',
            '"seed": seed}',
            "search: trials are chosen by the seeds that they are judged by at the end",
        ),
    ),
    *_in(
        "agents/lab/export/module.py",
        "tests/lab/export/test_export.py",
        ("restarted(given[STATE], start)", "given[STATE]", "export: what is remembered goes on in the next episode"),
        (
            "return action.to(torch.int64).reshape(-1, *raw.shape) + start",
            "return action.to(torch.int64).reshape(-1, *raw.shape)",
            "export: actions that begin elsewhere than at 0 are given from 0",
        ),
    ),
    *_in(
        "agents/lab/export/web.py",
        "tests/lab/export/test_export.py",
        ('"TITLE": html.escape(title)', '"TITLE": title', "export: a name is read as HTML"),
    ),
    *_in(
        "agents/lab/export/expressions.py",
        "tests/lab/export/test_export.py",
        ("? {made} + {b} : {made})", "? {made} : {made})", "export: remainders of negative numbers are negative"),
        ("(-1 - {a})", "({a} == 0)", "export: bits of whole numbers are turned as truths are"),
        ("{b} : {a} + {b})", "{b} : {b})", "export: the larger of NaN and a number is the number"),
    ),
    *_in(
        "agents/lab/export/writer.py",
        "tests/lab/export/test_export.py",
        ("if isinstance(argument, float)]", "if False]", "export: decimals that whole numbers meet are cut"),
    ),
    *_in(
        "agents/lab/export/js.py",
        "tests/lab/export/test_export.py",
        ("f(low(a), low(b))", "f(a % HALF, b % HALF)", "export: bits of negative numbers are others in a page"),
    ),
    *_in(
        "agents/lab/export/views.py",
        "tests/lab/export/test_export.py",
        (
            "writer.whole(value) if not value.contiguous else value",
            "value",
            "export: a turned array is read as it lies",
        ),
    ),
    *_in(
        "agents/lab/export/folds.py",
        "tests/lab/export/test_export.py",
        (
            "_beats(value, entry, sign, zero)",
            "_beats(value, entry, f'{sign}=', zero)",
            "export: of equals the last is taken",
        ),
    ),
    *_in(
        "agents/networks/scan.py",
        "tests/networks/test_memory.py",
        ("keep = keep * ~start[..., None]", "keep = keep * 1", "scan: nothing is forgotten where an episode starts"),
    ),
    *_in(
        "agents/ops/recurrences.py",
        "tests/ops/test_recurrences.py",
        ("keep[to] * keep[source]", "keep[to]", "scan: what is kept over two steps is what is kept over one"),
        ("to_n = (1 - z) * (1 - n * n)", "to_n = 1 - n * n", "GRU: the gradient forgets that the gate was half shut"),
    ),
    *_in(
        "agents/networks/attention.py",
        "tests/networks/test_memory.py",
        ("== of_seen[:, None, :]) & near", "== of_seen[:, None, :])", "gtrxl: steps to come are attended to"),
        (
            "same = (episode[:, :, None] == of_seen[:, None, :]) & near",
            "same = near.expand(len(x), -1, -1)",
            "gtrxl: the episode before is attended to",
        ),
        (
            "torch.where(there.squeeze(-1) > 0, 0, -1)",
            "torch.zeros_like(there.squeeze(-1))",
            "gtrxl: steps that never were are attended to",
        ),
        ("(last * kept)", "(last)", "gtrxl: the window goes on into the next episode"),
    ),
    *_in(
        "agents/networks/models.py",
        "tests/networks/test_models.py",
        (
            "orthogonal(self.policy_head, 0.01)",
            "orthogonal(self.policy_head, 1.0)",
            "PPO: the policy begins far from uniform",
            DETAILS,
        ),
        (
            "torso = self.policy_torso if self.value_torso is None else self.value_torso",
            "torso = self.policy_torso",
            "values of successors go through the policy's torso",
        ),
    ),
    *_in(
        "envs/native/vec_env.py",
        "tests/envs/test_native.py",
        (
            "np.asarray(reward, np.float32), terminated, truncated, next_obs)",
            "np.asarray(reward, np.float32), terminated, truncated, obs)",
            "native: the successor of an episode's last step is the next one's beginning",
            VECTOR,
        ),
        (
            "truncated = self.steps >= self._limit",
            "truncated = self.steps > self._limit",
            "native: a limit one step late",
        ),
        (
            "np.asarray(reward, np.float32), terminated, truncated, next_obs)",
            "np.asarray(reward, np.float32), done, truncated, next_obs)",
            "native: an episode cut by its limit is called terminated too",
            LIMITS,
        ),
        (
            "steps = xp.where(done, 0, steps)",
            "steps = xp.where(terminated, 0, steps)",
            "native tensors: the count of steps goes on after a time limit",
        ),
    ),
    *_in(
        "agents/core/cycles.py",
        "tests/core/test_cycles.py",
        ("        gc.set_threshold(*USUAL)\n", "", "a training hardly looks for cycles, whose memory grows"),
    ),
    *_in(
        "envs/native/base.py",
        "tests/envs/test_own_dynamics.py",
        (
            'if "step" in vars(kind)), False)',
            'if "single" in vars(kind)), False)',
            "native: a step of its own gets one environment without its axis",
        ),
    ),
    *_in(
        "envs/native/base.py",
        "tests/envs/test_native.py",
        (
            "self.step(np, state[:, 0], action[0]",
            "self.step(np, state[::-1, 0], action[0]",
            "native: one environment alone has another state",
        ),
    ),
    *_in(
        "envs/native/tasks/cartpole.py",
        "tests/envs/test_native.py",
        (
            "HALF_LENGTH = 0.5",
            "HALF_LENGTH = 1.0",
            "CartPole: the pole's length for half of it",
        ),
    ),
    *_in(
        "envs/native/tasks/pendulum.py",
        "tests/envs/test_native.py",
        ("0.1 * xp.square(speed)", "0.1 * abs(speed)", "Pendulum: the cost of speed"),
    ),
    *_in(
        "envs/native/tasks/acrobot.py",
        "tests/envs/test_native.py",
        ("k1 + 2 * (k2 + k3) + k4", "k1 + 2 * k2 + 2 * k1 + k4", "Acrobot: a stage of Runge and Kutta's"),
    ),
    *_in(
        "envs/native/tasks/mountaincar.py",
        "tests/envs/test_native.py",
        (
            "following[1] = xp.where((position <= LEFT) & (speed < 0), 0.0, speed)",
            "following[1] = speed",
            "MountainCar: the wall does not stop the car",
        ),
    ),
    *_in(
        "envs/native/tasks/corridor.py",
        "tests/envs/test_games.py",
        ("side * (walked == 0)", "side * (walked >= 0)", "Corridor: the cue stays, so that no memory is needed"),
    ),
    *_in(
        "envs/native/tasks/bricks.py",
        "tests/envs/test_games.py",
        (
            "next_x - corner * across",
            "next_x - broken * across",
            "Bricks: a ball that breaks a brick does not slide on",
        ),
    ),
    *_in(
        "envs/native/pixels.py",
        "tests/envs/test_pixels.py",
        (
            "self.sticky_action_prob, state[-1], action)",
            "0, state[-1], action)",
            "games after MinAtar's: no action sticks",
        ),
    ),
    *_in(
        "envs/native/tasks/treasure.py",
        "tests/envs/test_pixels.py",
        ("way * ~(taken | (at < 0)", "way * ~((at < 0)", "Treasure: gold that was taken is still there"),
    ),
    *_in(
        "envs/native/tasks/crossing.py",
        "tests/envs/test_pixels.py",
        (
            "((at == COLUMN) | (following == COLUMN))",
            "(following == COLUMN)",
            "Crossing: who steps in front of a car that drives on is not hit",
        ),
    ),
    *_in(
        "envs/native/tasks/invaders.py",
        "tests/envs/test_pixels.py",
        ("xp.minimum(count, move_every)", "move_every", "Invaders: few aliens are as slow as many"),
    ),
    *_in(
        "envs/native/tasks/submarine.py",
        "tests/envs/test_pixels.py",
        ("(enemy_wait == 0) & ~barred", "enemy_wait == 0", "Submarine: enemies of one row go both ways"),
        (
            "xp.where(full, 0, aboard - surfaces * 1)",
            "aboard - surfaces * 1",
            "Submarine: five of six divers stay aboard",
        ),
    ),
    *_in(
        "envs/adapters/vector.py",
        "tests/envs/test_autoreset_parity.py",
        (
            "self._with_finals(obs, rows, infos) if self._same_step else obs",
            "obs",
            "vector environments: final_obs of a same-step autoreset is not looked at",
            VECTOR,
        ),
        (
            "            self._dummy = ended",
            "            self._dummy = None",
            "vector environments: what a next-step autoreset makes up is learnt from",
            "Gymnasium issue 1451, and its migration guide to 1.0",
        ),
    ),
    *_in(
        "envs/adapters/episodic.py",
        "tests/envs/test_autoreset_parity.py",
        (
            "Step(self._obs, reward, terminated, truncated, next_obs, infos=found)",
            "Step(self._obs, reward, terminated, truncated, self._obs, infos=found)",
            "sync: the successor of an episode's last step is the next one's beginning",
            VECTOR,
        ),
    ),
    *_in(
        "envs/adapters/episodes.py",
        "tests/envs/test_positions.py tests/envs/test_workers.py tests/envs/test_autoreset_parity.py",
        (
            '"env", self._first + index, int(',
            '"env", index, int(',
            "async: environments of different processes have the same seeds",
            "vector environments that give all copies one seed",
        ),
        (
            "self._episodes[index] += 1",
            "self._episodes[index] += 0",
            "sync: each episode begins with the same seed",
            "env.reset(seed=seed) in the loop instead of before it",
        ),
    ),
    *_in(
        "envs/adapters/sync.py",
        "tests/envs/test_autoreset_parity.py",
        (
            'flags_of(truncated, "truncated")',
            'flags_of(terminated, "truncated")',
            "sync: terminations are reported as time limits too",
        ),
    ),
    *_in(
        "envs/adapters/workers.py",
        "tests/envs/test_workers.py tests/envs/test_autoreset_parity.py",
        (
            "ended = np.flatnonzero(terminated | truncated)",
            "ended = np.flatnonzero(terminated)",
            "async: the successor at a time limit is the next episode's beginning",
            VECTOR,
        ),
    ),
    *_in(
        "envs/adapters/masks.py",
        "tests/envs/test_masks.py",
        (
            "legal = np.add.reduceat(obs[ACTION_MASK] != 0, self._starts, axis=1, dtype=np.int64)",
            "legal = (obs[ACTION_MASK] != 0).sum(axis=1, keepdims=True)",
            "masks: a MultiDiscrete needs one legal choice in all, not in each",
        ),
    ),
    *_in(
        "envs/adapters/masks.py",
        "tests/envs/test_masks.py",
        (
            "for key, part in parts if choices(part)]",
            "for key, part in reversed(parts) if choices(part)]",
            "masks: those of the parts of hybrid actions are in the wrong order",
        ),
        (
            'over = terminated and self._source == "action_masks()"',
            "over = False",
            "masks: action_masks() is asked where an episode has ended",
        ),
    ),
    *_in(
        "envs/actions.py",
        "tests/envs/test_spaces.py",
        (
            "(whole.reshape(-1, *self._shape) + self._start)",
            "whole.reshape(-1, *self._shape)",
            "spaces: actions of Discrete(n, start=k) begin at 0",
            "Discrete's start, as often overlooked",
        ),
        (
            "(high - low) / 2, (high + low) / 2",
            "(high - low), (high + low) / 2",
            "rescaled actions reach twice as far as the bounds",
        ),
        (
            "return np.minimum(np.maximum(raw, self._low, out=raw), self._high, out=raw)",
            "return raw",
            "actions beyond the bounds reach the environment",
            DETAILS,
        ),
        (
            "_Leaf(leaf, rescale, ",
            "_Leaf(leaf, False, ",
            "spaces: --rescale-action clips",
        ),
        (
            "and list(self.parts.items()) == list(other.parts.items())",
            "and self.shape == other.shape",
            "hybrid actions: any of as many numbers fit a model",
        ),
    ),
    *_in(
        "agents/ops/distributions.py",
        "tests/ops/test_gsde.py",
        (
            "self.mean + (features[..., None, :] @ (std * noise)).squeeze(-2)",
            "self.mean + (features[..., None, :] @ noise).squeeze(-2)",
            "gSDE: the learnt deviation is not acted with",
        ),
    ),
    *_in(
        "agents/ops/gsde.py",
        "tests/ops/test_gsde.py",
        (
            "features.square() @ (2 * log_std).exp()",
            "features.square() @ log_std.exp()",
            "gSDE: the variance adds up deviations",
            "Raffin et al. 2022, arXiv:2005.05719, eq. 7",
        ),
        (
            "drawn.repeat_interleave(every, dim=0)[:ticks]",
            "drawn.repeat(every, 1, 1, 1)[:ticks]",
            "gSDE: matrices take turns instead of being held",
        ),
    ),
    *_in(
        "agents/algos/sac/algorithm.py",
        "tests/algos/test_sac.py",
        (
            "return int(self.updates) % interval == 0",
            "return int(self.updates) % interval == 1",
            "SAC: with target_update_interval the target moves with the first update",
        ),
    ),
    *_in(
        "agents/ops/distributions.py",
        "tests/ops/test_hybrid.py",
        (
            'torch.stack(self._each("log_prob", self._columns(action))).sum(dim=0)',
            'torch.stack(self._each("log_prob", self._columns(action))).mean(dim=0)',
            "hybrid actions: log-probabilities of parts are averaged",
        ),
        (
            "distribution(part, parameter, deviation, squash, legal)",
            "distribution(part, parameter, deviation, squash)",
            "hybrid actions: masks are forgotten",
        ),
    ),
    *_in(
        "envs/spaces.py",
        "tests/envs/test_spaces.py",
        (
            "batch = batch.astype(np.int64) - self.start",
            "batch = batch.astype(np.int64)",
            "spaces: observations of Discrete(n, start=k) are taken from 0",
            "Discrete's start, as often overlooked",
        ),
    ),
    *_in(
        "envs/locate.py",
        "tests/envs/test_wrappers.py",
        (
            "    for entry in wrappers:",
            "    for entry in reversed(wrappers):",
            "wrappers go around in the opposite order",
        ),
    ),
    *_in(
        "envs/single.py",
        "tests/envs/test_wrappers.py",
        (
            "spec = dataclasses.replace(spec, max_episode_steps=limit)",
            "spec = dataclasses.replace(spec, max_episode_steps=spec.max_episode_steps)",
            "a registered time limit cuts short what was given a longer one",
        ),
    ),
    *_in(
        "agents/run/loops.py",
        "tests/run/test_loops.py",
        (
            "learner.update(_learnt_from(collected, config), progress)",
            "learner.update(_learnt_from(collected, config), state.step / total)",
            "schedules: the last update has rate 0, the first not the full one",
            DETAILS,
        ),
        ("trajectory.reward.sign()", "trajectory.reward.clamp(-1, 1)", "clip_reward: small rewards keep their size"),
        (
            "updates = crossings(last, after,",
            "updates = int(after > before) * crossings(last, last + config.replay.train_freq,",
            "DQN: one round a tick, however many steps it made",
            "SB3's train_freq, which counts calls",
        ),
        (
            "if after >= self._config.replay.learning_starts:",
            "if after > 2 * self._config.replay.learning_starts:",
            "DQN: learning starts late",
        ),
        (
            "self._learner.algorithm.after_round(before, after)",
            "self._learner.algorithm.after_round(last, after)",
            "DQN: target updates that fell due in earlier ticks of a round are left out",
        ),
        (
            "minibatch.indices, self._result.priorities",
            "minibatch.indices.flip(0), self._result.priorities",
            "priorities go to other transitions than those they are of",
        ),
    ),
    *_in(
        "agents/run/training.py",
        "tests/run/test_build.py",
        (
            '"learner": self.learner.state_dict(),',
            '"learner": self.learner.state_dict() | {"n_updates": 0},',
            "checkpoints: the number of updates begins anew",
        ),
        ("            self.replay.cut()", "            pass", "replay: n-step windows span a reset in between"),
    ),
    *_in(
        "agents/run/run.py",
        "tests/run/test_runner.py",
        (
            "mean > self.monitor.best[0]",
            "mean < self.monitor.best[0]",
            "the best model is the worst",
            "evaluation callbacks whose comparison is turned round for costs",
        ),
        (
            "self.folder.states()[-KEEP_STATES:]",
            "self.folder.states()[:KEEP_STATES]",
            "checkpoints: the newest states are thrown away",
        ),
        (
            "confirmed if confirmed >= target else None",
            "mean if mean >= target else None",
            "the target is reached by the lucky evaluation that is to be confirmed",
            "early stopping on the evaluations that the best model is chosen by",
        ),
        (
            "self.monitor.best = (mean, step)",
            "self.monitor.best = (mean, self.monitor.handled)",
            "the best model is noted under an earlier step",
        ),
    ),
    *_in(
        "agents/run/resuming.py",
        "tests/run/test_resume.py",
        (
            "in reversed(folder.checkpoints()):",
            "in folder.checkpoints():",
            "resume: from the oldest checkpoint instead of the newest",
        ),
    ),
    *_in(
        "agents/run/evaluator.py",
        "tests/run/test_runner.py tests/run/test_seeing.py tests/acting/test_evaluation.py",
        (
            "seed = derive_seed(self.seed, *stream)",
            "seed = derive_seed(self.seed)",
            "the final evaluation plays the episodes that the best model was chosen by",
            "scores on the seeds that were selected on; " + DEEP,
        ),
    ),
    *_in(
        "agents/run/monitor.py",
        "tests/run/test_runner.py tests/run/test_seeing.py",
        (
            "self.evaluated <= share * (step - self.first)",
            "self.evaluated <= share * step",
            "evaluations count the steps of an earlier training as this one's",
        ),
        (
            "fmean(map(float, values))",
            "float(values[-1])",
            "scalars: the last value of a row for the mean",
        ),
    ),
    *_in(
        "agents/run/seeds.py",
        "tests/run/test_seeds.py",
        (
            'update={"seed": seed}',
            'update={"seed": config.seed}',
            "--seeds trains the same seed again and again",
            DEEP,
        ),
        ("scores.std(ddof=1)", "scores.std()", "--seeds: the deviation of a population for that of a sample"),
        (
            "if not isinstance(error, Diverged) and not seeds.done():",
            "if True:",
            "--seeds: one training that diverges ends all others",
        ),
        (
            "if failure and seed is not None:",
            "if False:",
            "--seeds: a process that dies takes its seed with it, and nothing is said",
        ),
        (
            "ROOM * most * training.data_bytes > free",
            "training.data_bytes > free",
            "--seeds: so many at a time that memory does not suffice for all",
        ),
    ),
    *_in(
        "agents/run/shared.py",
        "tests/run/test_seeds.py",
        ('.open("x")', '.open("w")', "--seeds: processes that share seeds all train the first"),
    ),
    *_in(
        "agents/run/build.py",
        "tests/run/test_build.py",
        (
            "ParameterLimit(room), on_one_thread():",
            "ParameterLimit(room):",
            "a network's first weights depend on how many threads there are",
        ),
    ),
    *_in(
        "agents/run/sinks.py",
        "tests/run/test_sinks.py",
        (
            'int(row["step"]) <= last_step',
            'int(row["step"]) < last_step',
            "resume: the row at the step of the checkpoint is cut off",
        ),
    ),
    *_in(
        "agents/run/tensorboard.py",
        "tests/run/test_tensorboard.py",
        (
            "Event(step=purge_step + 1,",
            "Event(step=purge_step,",
            "resume: TensorBoard hides the step of the checkpoint",
        ),
        ("{re.escape(tag)}$", "{re.escape(tag)}", "a chart shows all scalars whose names begin with its own"),
        ("edges[:-1], edges[1:], counts", "edges[1:], edges[:-1], counts", "bars of histograms are inside out"),
    ),
    *_in(
        "agents/run/storage.py",
        "tests/run/test_storage.py",
        (
            "os.replace(temporary, path)",
            "shutil.copyfile(temporary, path)",
            "files are copied into their place, which a crash may leave half done",
        ),
        (
            "path.rename(previous)",
            "shutil.rmtree(path)",
            "folders are deleted before the new one is in their place",
        ),
    ),
    *_in(
        "agents/run/trees.py",
        "tests/run/test_storage.py",
        (
            "if sha256 is not None and digest != sha256:",
            "if not digest:",
            "the checksum of the numbers is not compared",
        ),
        ("    if altered:", "    if checksum is None:", "the checksum of the structure is not compared"),
        (
            'part = f"#{key}" if isinstance(key, int)',
            'part = f"{key}" if isinstance(key, int)',
            "the keys 1 and '1' are stored in one place",
        ),
    ),
    *_in(
        "agents/run/models.py",
        "tests/run/test_models.py",
        (
            "model.step < int(newest[0])",
            "model.step > int(newest[0])",
            "the latest model is the older one of two",
        ),
    ),
    *_in(
        "agents/run/play.py",
        "tests/run/test_recording.py",
        ("ret, count, ended = ret + reward,", "ret, count, ended = reward,", "episodes: the return is the last reward"),
        (
            "obs = step.obs\n        reward, term",
            "obs = step.next_obs\n        frame = _picture(env) if render else None\n        reward, term",
            "pictures show what came of an action, beside the values of before",
        ),
    ),
    *_in(
        "agents/lab/statistics.py",
        "tests/lab/test_statistics.py",
        (
            "trim_mean(np.concatenate(tasks, axis=-1), 0.25,",
            "trim_mean(np.concatenate(tasks, axis=-1), 0.125,",
            "IQM: an eighth is cut at each end, a quarter in all",
            RELIABLE,
        ),
        (
            "np.minimum(task, 1)",
            "task",
            "optimality gap: scores above 1 make up for others",
            RELIABLE,
        ),
        ("confidence_level=confidence", "confidence_level=confidence**2", "bootstrap: a 90% interval called 95%"),
        ("welch = ttest_ind(x, y, equal_var=False)", "welch = ttest_ind(x, y)", "Student's t for Welch's", DEEP),
        ("(len(known) - place) * p_values[index]", "len(known) * p_values[index]", "Holm: every p as in Bonferroni's"),
        (
            "np.float64) >= threshold)",
            "np.float64) > threshold)",
            "a curve that touches the threshold does not reach it",
        ),
        (
            "np.trapezoid(heights, places) / (last - first)",
            "np.mean(heights)",
            "the mean height of a curve forgets how far evaluations lie apart",
            "area under a curve as the mean of its points",
        ),
        (
            "samples[: len(ours)], samples[len(ours) :]",
            "samples[len(ours) :], samples[: len(ours)]",
            "the probability of improvement is the other side's",
        ),
    ),
    *_in(
        "agents/lab/comparison/analysis.py",
        "tests/lab/comparison/test_verdict.py",
        ("if difference > 0 else", "if difference < 0 else", "the verdict is turned round"),
        (
            "(scores - zero) / (one - zero)",
            "scores / one",
            "normalised scores do not count from random play",
            "human-normalised scores without the random one",
        ),
        (
            "first, last = float(max(run.steps[0] for run in runs)), float(min(",
            "first, last = float(min(run.steps[0] for run in runs)), float(max(",
            "curves are compared beyond what they share",
        ),
    ),
    *_in(
        "agents/view/panel.py",
        "tests/view/test_window.py tests/view/test_saliency.py tests/view/test_viewer.py",
        (
            "            step=moment.step,",
            "            step=moment.step - 1,",
            "watch: the step shown is the one before",
        ),
        (
            '"terminated" if moment.terminated else',
            '"terminated" if not moment.terminated else',
            "watch: says time limit where an episode terminated",
        ),
        (
            "            at=moment.step - 1,",
            "            at=len(self.series) - 1,",
            "watch: going back does not move the dot",
        ),
        ("action = taken.index(True)", "action = 0", "watch: the distribution shown is the first action's"),
        (
            "self.resets.append(len(self.series))",
            "self.resets.append(len(self.series) + 1)",
            "watch: the mark of a memory reset is a step late",
        ),
    ),
    *_in(
        "agents/view/show.py",
        "tests/view/test_follow.py",
        (
            'f"episode {index + 1} · seed {seed} · {acting}"',
            'f"episode {index + 1} · seed {self.seed} · {acting}"',
            "watch: the seed shown is that of the first episode",
        ),
    ),
    *_in(
        "agents/view/saliency.py",
        "tests/view/test_saliency.py",
        ("leaf[0].abs()", "leaf[0]", "watch: saliencies of opposite signs cancel out"),
    ),
    *_in(
        "agents/run/play.py",
        "tests/view/test_saliency.py",
        (
            "player.start(np.ones(1, bool))",
            "player.start(np.zeros(1, bool))",
            "watch: a memory that is said to be reset is kept",
        ),
    ),
    *_in(
        "agents/ops/values.py",
        "tests/view/test_saliency.py",
        (
            "return self.support(atoms).expand_as(atoms), atoms.softmax(-1)",
            "return self.support(atoms).expand_as(atoms), atoms.sigmoid()",
            "watch: the columns of a distribution are no probabilities",
        ),
    ),
    *_in(
        "agents/view/player.py",
        "tests/view/test_keys.py tests/view/test_window.py",
        (
            'found = within[:1] if key in "]{" else within[-1:]',
            'found = within[-1:] if key in "]{" else within[:1]',
            "watch: [ and ] skip to the first and the last checkpoint",
        ),
        (
            "going = [lane for lane in self.lanes if not lane.over] or self.lanes",
            "going = self.lanes",
            "watch: of two side by side, one begins the next episode before the other",
        ),
        (
            "self.open(self.tape.index)",
            "self.open(self.tape.index + 1)",
            "watch: another checkpoint plays another episode",
        ),
    ),
    *_in(
        "agents/view/page.py",
        "tests/view/test_page.py",
        (
            "return secrets.compare_digest(token.encode(), self.token.encode())",
            "return True",
            "watch page: anybody in the network may ask without the token",
        ),
        ('partition(":")[0] in HERE', 'partition(":")[0] != ""', "watch page: a name bound to this machine may ask"),
        ("if sent is None or not", "if sent is not None and not", "watch page: another site's form presses keys"),
    ),
    *_in(
        "agents/lab/run_page.py",
        "tests/lab/test_run_page.py",
        (
            "worst, best = int(returns.argmin()), int(returns.argmax())",
            "best, worst = int(returns.argmin()), int(returns.argmax())",
            "report of a run: the best episode is called the worst",
        ),
        ('content[4:8] == b"ftyp"', "content", "report of a run: a file that is no video is shown as one"),
        (
            'name not in OWN and packaged.get(name) != "auto"',
            "name not in OWN and packaged.get(name) == own[name]",
            "report of a run: settings that differ from the packaged ones are left out",
        ),
    ),
    *_in(
        "agents/lab/gallery.py",
        "tests/lab/test_gallery.py",
        (
            'json.dumps(runs).replace("<"',
            'json.dumps(runs).replace("~"',
            "gallery: a run's name ends the data and becomes markup",
        ),
        ("quote(Path(", "str(Path(", "gallery: a video's address is cut at a # in a run's name"),
    ),
    *_in(
        "agents/run/video.py",
        "tests/run/test_video.py",
        ("if max(read) <= BLACK:", "if max(read) < 0:", "a video that is black is as good as any other"),
        ("if found != count and not (", "if not found and not (", "a video that lacks frames is as good as any other"),
    ),
    *_in(
        "agents/run/curves.py",
        "tests/view/test_page.py",
        ("curve.steps[-1] < step", "True", "a page's curves go back where a step comes twice"),
    ),
    *_in(
        "agents/run/folder.py",
        "tests/view/test_follow.py",
        ("st_mtime < ASKED", "st_mtime > ASKED", "train: models are saved for those who looked long ago"),
    ),
    *_in(
        "agents/view/lane.py",
        "tests/view/test_window.py",
        (
            "self.tape, self.at = before, len(before.kept) - 1",
            "self.tape, self.at = before, 0",
            "watch: a step back from an episode's first goes to the first of the one before",
        ),
    ),
    *_in(
        "agents/view/reel.py",
        "tests/view/test_window.py",
        ("tape.kept.popleft().size", "tape.kept.pop().size", "watch: forgets the newest moments instead of the oldest"),
    ),
    *_in(
        "agents/view/bars.py",
        "tests/view/test_viewer.py",
        (
            "(np.nan_to_num(values) - low) / max(high - low, 1e-9)",
            "np.nan_to_num(values) / max(high, 1e-9)",
            "watch: bars of Q-values from 0 instead of the lowest",
        ),
    ),
    *_in(
        "agents/ops/distributions.py",
        "tests/ops/test_distributions.py",
        (
            "(noise < self.logits.sigmoid()).long()",
            "(noise > self.logits.sigmoid()).long()",
            "MultiBinary: coins fall the other way",
        ),
        (
            "torch.stack([part.entropy(action) for part in self.parts]).sum(dim=0)",
            "torch.stack([part.entropy(action) for part in self.parts]).mean(dim=0)",
            "MultiDiscrete: the entropy is the mean of its parts",
        ),
        (
            "noise = ((action - self.mean) / std).detach()",
            "noise = (action - self.mean) / std",
            "tanh: the entropy has no gradient through the mean",
        ),
        ("return action.tanh()", "return action.clamp(-1, 1)", "tanh: the environment gets clipped actions"),
    ),
    *_in(
        "agents/acting/state.py",
        "tests/acting/test_state.py tests/run/test_loops.py",
        (
            "np.arange(self.step, self.step + ticks * num_envs, num_envs) / total",
            "np.arange(ticks) * num_envs / total",
            "exploration: its schedule begins anew with each rollout",
        ),
        (
            "self.tracker.returns, self.tracker.lengths = returns, lengths",
            "self.tracker.returns, self.tracker.lengths = returns * 0, lengths",
            "resume: the returns of running episodes begin at 0",
        ),
    ),
    *_in(
        "agents/acting/policies.py",
        "tests/acting/test_state.py tests/networks/test_memory.py tests/algos/test_ppo.py",
        (
            "            state = restarted(state, to_tensor(episode_start, self.device))",
            "            state = state",
            "predict: episode_start does not clear the memory",
            "episode_start of SB3-contrib's recurrent predict",
        ),
    ),
    *_in(
        "agents/acting/fused.py",
        "tests/acting/test_fused.py",
        (
            "carry = restarted(acted.carry, start)",
            "carry = acted.carry",
            "fused: memory goes on into the next episode",
        ),
        (
            "place = rank - 1 - (ended - count).clamp(min=0)",
            "place = rank - 1",
            "fused: reports the oldest episodes of a rollout as the newest",
        ),
    ),
    *_in(
        "agents/learning/optimizer.py",
        "tests/learning/test_optimizer.py tests/learning/test_modules.py",
        (
            "view.copy_(parts[name].view(view.shape))",
            "view.copy_(parts[name].view(view.shape) * 0)",
            "moments of all layers are lost as one is replaced",
        ),
        (
            "        self.steps = steps",
            "        self.steps = 0",
            "resume: Adam corrects its biases as if it began anew",
            "optimisers that are not saved with the model",
        ),
    ),
    *_in(
        "agents/learning/learner.py",
        "tests/learning/test_learner.py tests/algos/test_ppo.py",
        (
            "size = max(self.algorithm.batch_size // ticks, 1)",
            "size = self.algorithm.batch_size",
            "memory: batch_size counts sequences instead of transitions",
        ),
        (
            "kept = trajectory.valid.flatten().nonzero().squeeze(1)",
            "kept = torch.arange(trajectory.valid.numel(), device=trajectory.valid.device)",
            "made-up transitions are learnt from",
            "Gymnasium issue 1451, and its migration guide to 1.0",
        ),
    ),
    *_in(
        "agents/acting/emitted.py",
        "tests/acting/test_emitted.py",
        ('"argmax": _place(">")', '"argmax": _place(">=")', "kernels: of equal action values the last one counts"),
        ("torch.result_type(a, b))", "torch.float32)", "kernels: what is compared is rounded first"),
        (
            'f"(({{0}} - {e.remainder}) {e.quotient} {{1}})"',
            'f"({{0}} {e.quotient} {{1}})"',
            "kernels: whole numbers are divided towards 0",
        ),
        ("NameArray(made.entries.copy(), made.dtype)", "made", "kernels: a copy changes with what it was made of"),
    ),
    *_in(
        "agents/acting/in_triton.py",
        "tests/acting/test_emitted.py tests/acting/test_rollout_kernel.py",
        ("text = repr(number) if", 'text = f"{number:.7g}" if', "kernels: constants are rounded"),
        (
            "padded = max(LEAST_TILE, 1 << (size - 1).bit_length())",
            "padded = max(LEAST_TILE, 1 << size.bit_length() - 1)",
            "kernels: a layer loses units",
        ),
    ),
    *_in(
        "agents/acting/in_cpp.py",
        "tests/acting/test_emitted.py tests/acting/test_rollout_kernel.py",
        ("text = repr(number)\n", 'text = f"{number:.7g}"\n', "kernels in C++: constants are rounded"),
        (
            "for (int i = inputs / 8 * 8; i < inputs; ++i)",
            "for (int i = inputs; i < inputs; ++i)",
            "kernels in C++: a layer loses units",
        ),
        ("sum[j] = b ? b[j] : 0.0f", "sum[j] = 0.0f", "kernels in C++: hidden layers have no bias"),
        ("mean += x[j] / width", "mean += x[j]", "kernels in C++: layers are normalised by a sum"),
    ),
    *_in(
        "agents/core/cpp_source.py",
        "tests/core/test_numpy_in_cpp.py",
        (
            "return r != 0 && (r < 0) != (b < 0) ? r + (T)b : r;",
            "return r;",
            "kernels in C++: remainders have the sign of what is divided",
        ),
        ("a < -87.0f ? 0.0f : (p + p) * power", "(p + p) * power", "in C++: what is far below 0 has no power of 0"),
    ),
    *_in(
        "agents/core/by_numpy/cpp_loops.py",
        "tests/core/test_numpy_in_cpp.py",
        ("_clash(one, each) or one.out.shape", "one.out.shape", "in C++: a loop reads what it has yet to write"),
        (
            "    found += [] if other.looked_up is None else [other.looked_up]\n",
            "",
            "in C++: rows change while they are read",
        ),
        ("all(array.strides[axis - 1] ==", "any(array.strides[axis - 1] ==", "in C++: gaps are gone through"),
    ),
    *_in(
        "agents/core/by_numpy/cpp_cells.py",
        "tests/core/test_cells_in_cpp.py",
        (
            "        restart(cell, start, t, envs, size);\n        by_panels",
            "        by_panels",
            "in C++: an LSTM's cell state outlives its episode",
        ),
        (
            "        restart(to_cell, start, t, envs, size);\n",
            "",
            "in C++: an LSTM's gradient goes on into the episode before",
        ),
        ("to_hidden[j] += kept[j];", "to_hidden[j] += 0.0f;", "in C++: a GRU keeps nothing of its gradient"),
        (
            "    elif learnt.compiled is None:  # PyTorch went forward\n        untold()\n",
            "",
            "in C++: a gradient of what PyTorch made",
        ),
    ),
    *_in(
        "agents/core/by_numpy/cpp_sums.py",
        "tests/core/test_numpy_in_cpp.py",
        (" != 0' if a.dtype == bool else ''", "'", "in C++: flags are bytes"),
        ('if fold != FOLDED["add"] else "0"', 'if False else "0"', "in C++: extremes are begun at 0"),
        ("am, ak, bk, bn, om, on = bn, bk, ak, am, on, om", "am, ak, bk, bn = bn, bk, ak, am", "in C++: turned round"),
    ),
    *_in(
        "agents/core/by_numpy/cpp_prelude.py",
        "tests/core/test_numpy_in_cpp.py",
        ("for (; m + 2 <= rows; m += 2)", "for (; m + 3 <= rows; m += 2)", "in C++: products leave rows out"),
        ("place < 0 ? 0 : place < n ? place : n - 1", "place", "in C++: places are looked up beyond an end"),
        ("left, k > 0);", "left, false);", "in C++: of long products the end alone counts"),
        ("(a[k] - most) - log", "a[k] - (most + log)", "in C++: classes far from 0 lose their digits"),
        ("a[k] > a[best] ||", "a[k] >= a[best] ||", "in C++: the last of equal ones is the greatest"),
    ),
    *_in(
        "agents/core/by_numpy/in_cpp.py",
        "tests/core/test_numpy_in_cpp.py",
        ("(here, there) if n < len(given)", "(there, here) if n < len(given)", "in C++: rows go the wrong way"),
    ),
    *_in(
        "agents/core/by_numpy/program.py",
        "tests/core/test_numpy_in_cpp.py",
        ("tensor[begin:].data_ptr()", "tensor.data_ptr()", "in C++: the first row is gone through twice"),
    ),
    *_in(
        "agents/core/runtime.py",
        "tests/core/test_numpy_in_cpp.py",
        ("leaf[[0, -1]]", "leaf[:1]", "in C++: loops are not compared with anything"),
    ),
    *_in(
        "agents/learning/learner.py",
        "tests/core/test_runtime.py",
        (
            "self._prepare = compiled(self._prepared, by_pytorch=False)",
            "self._prepare = compiled(self._prepared, state=lambda: list(algorithm.buffers()), by_pytorch=False)",
            "in C++: what prepares changes parameters more than once",
        ),
    ),
    *_in(
        "agents/core/cpp_source.py",
        "tests/core/test_cpp_source.py",
        ("and not found.st_mode & 0o022", "", "in C++: what others put there is run"),
        ('if file.name == f"{key}.{_digest(file.read_bytes())}.so":', "if True:", "in C++: torn libraries are run"),
    ),
    *_in(
        "agents/core/device.py",
        "tests/ops/test_returns.py",
        (" and not noting()", "", "noted: returns take an operation for each step"),
    ),
    *_in(
        "agents/core/cpp_source.py",
        "tests/core/test_cpp_source.py",
        ('"\\0".join([source, *command', '"\\0".join([*command', "kernels in C++: one is taken for another"),
    ),
    *_in(
        "agents/acting/rollout_kernel.py",
        "tests/acting/test_rollout_kernel.py",
        (
            "    return [e.tile_moved(tile, source)]\n",
            "    return []\n",
            "kernels: what is remembered is that of the first tick",
        ),
        ('return "" if count <= allowed', 'return "" if count <= len(apart)', "kernels: one that goes wrong is used"),
        (
            "(~_close(one, other)).transpose(0, 1)",
            "(~_close(one, other))[:1].transpose(0, 1)",
            "kernels: compared in the first tick alone",
        ),
        (
            "list(e.cast(e.names(after), before.dtype)",
            "list(e.cast(e.names(before), before.dtype)",
            "kernels: environments stand still",
        ),
    ),
    *_in(
        "agents/acting/fused.py",
        "tests/acting/test_rollout_kernel.py",
        (
            "self._tensors, differences, version, otherwise",
            "self._tensors, differences, otherwise",
            "kernels: one acts by layers that are gone",
        ),
    ),
    *_in(
        "agents/core/triton_source.py",
        "tests/core/test_triton_source.py",
        ('return "tf32" if', 'return "ieee" if', "kernels: products are rounded whatever the precision asked for"),
    ),
    *_in(
        "agents/core/watch.py",
        "tests/core/test_watch.py tests/learning/test_parameters.py",
        (
            "(one.data_ptr(), one.requires_grad, *",
            "(one.data_ptr(), True, *",
            "a layer frozen during the training is still trained",
        ),
    ),
    *_in(
        "agents/networks/encoders.py",
        "tests/networks/test_encoders.py",
        (
            "x if x.dim() == 2 else x.reshape(x.shape[0], -1)",
            "x if x.dim() == 2 else x.flatten(2)[:, 0]",
            "vectors of several axes: the first row alone is read",
        ),
        (
            "RunningNorm(self.features) if normalize and self.scale is None else None",
            "RunningNorm(self.features) if normalize else None",
            "norm_obs: bytes are scaled and normalised too",
        ),
        (
            "if key != ACTION_MASK}",
            "if key}",
            "masks are read as observations",
        ),
    ),
    *_in(
        "agents/networks/models.py",
        "tests/networks/test_models.py tests/networks/test_memory.py",
        (
            "log_std.clamp(-20, 2)",
            "log_std.clamp(-20, 20)",
            "deviations that follow the state are not bounded",
        ),
        (
            "nn.init.constant_(self.policy_head.bias[size:], config.log_std_init)",
            "nn.init.constant_(self.policy_head.bias[:size], config.log_std_init)",
            "log_std_init moves the means where deviations follow the state",
        ),
    ),
    *_in(
        "agents/networks/cells.py",
        "tests/networks/test_memory.py",
        (
            "self.cell.bias_ih[size : 2 * size], KEEP",
            "self.cell.bias_ih[:size], KEEP",
            "memory: the first gates begin open instead of those that keep",
        ),
    ),
    *_in(
        "agents/networks/pictures.py",
        "tests/networks/test_pictures.py tests/networks/test_encoders.py",
        (
            "best = max(readings, key=lambda reading: (reading.square, reading.area))",
            "best = min(readings, key=lambda reading: (reading.square, reading.area))",
            "pictures: the axis of channels is taken for a side",
        ),
    ),
    *_in(
        "agents/algos/dqn/algorithm.py",
        "tests/learning/test_modules.py tests/algos/test_dqn.py",
        (
            "if not alike(self.target, self.model):",
            "if False:",
            "DQN: the target keeps the layers that the online network has lost",
        ),
    ),
    *_in(
        "envs/adapters/episodes.py",
        "tests/envs/test_positions.py",
        (
            "observation, _ = env.reset(seed=record.seed)",
            "observation, _ = env.reset()",
            "resume: an episode is replayed from another beginning",
        ),
        (
            "if terminated or truncated:",
            "if terminated:",
            "resume: a replayed episode goes on beyond its time limit",
        ),
    ),
    *_in(
        "envs/adapters/episodic.py",
        "tests/envs/test_positions.py",
        (
            "if self._observations.agrees(obs, row, reached.observation):",
            "if True:",
            "resume: an environment that replays differently is taken for restored",
        ),
        (
            "self._dummy = dummy if dummy.any() else None",
            "self._dummy = None",
            "resume: the transition from a lost position to a new episode is learnt from",
        ),
    ),
    *_in(
        "envs/native/vec_env.py",
        "tests/envs/test_own_dynamics.py tests/envs/test_positions.py",
        (
            'arrays.seed(derive_seed(seed, "env"))',
            "arrays.seed(0)",
            "native: every seed is the same",
            "environments that are never seeded, or all alike",
        ),
        (
            "self.steps = arrays.assign(self.steps, arrays.from_numpy(steps))",
            "self.steps = arrays.assign(self.steps, arrays.zeros(self.num_envs))",
            "native: after a resume time limits begin anew",
        ),
    ),
    *_in(
        "envs/native/vec_env.py",
        "tests/envs/test_native.py",
        (
            "action * self._scale[0] + self._scale[1]",
            "action * self._scale[0]",
            "native: rescaled actions miss bounds that do not lie around 0",
        ),
    ),
    *_in(
        "agents/run/build.py",
        "tests/run/test_build.py",
        (
            'policy, derive_seed(seed, "training"), noise)',
            "policy, seed, noise)",
            "training's environments begin with the run's own seed, as somebody else's may",
        ),
    ),
    *_in(
        "agents/run/loops.py",
        "tests/run/test_loops.py",
        (
            "left = -(-(config.total_timesteps - step) // num_envs)",
            "left = YIELD_TICKS",
            "DQN: goes on beyond its budget",
        ),
    ),
    *_in(
        "agents/run/concluding.py",
        "tests/run/test_runner.py tests/run/test_seeing.py",
        (
            "solved = None if threshold is None else mean >= threshold",
            "solved = None if threshold is None else mean > threshold",
            "a mean at the threshold itself does not solve",
        ),
        (
            'result = run.evaluate(episodes, "final")',
            'result = run.evaluate(episodes, "confirmation", step)',
            "the final score is that of the episodes which ended the run",
            "reporting the score that stopped the training",
        ),
    ),
    *_in(
        "agents/run/run.py",
        "tests/run/test_seeing.py",
        (
            "return int(result.lengths.sum())",
            "return len(result.lengths)",
            "evaluations count episodes where steps are shared",
        ),
        (
            'record_video(self, step, "latest")',
            'record_video(self, step, "best")',
            "a video of --record-every shows the best policy",
        ),
        (
            "        if place.exists():\n            return\n",
            "",
            "a model kept for the film takes the place of a training state",
        ),
    ),
    *_in(
        "agents/run/footage.py",
        "tests/run/test_seeing.py",
        ("    while step // every > FILM_MODELS:\n        every *= 2\n", "", "a long training keeps 160 models"),
        ("if step // interval == last", "if step // interval != last", "the film's models are those between"),
    ),
    *_in(
        "agents/run/histograms.py",
        "tests/run/test_tensorboard.py",
        (
            "parameters.views(optimizer.moments[0])",
            "parameters.views(optimizer.moments[1])",
            "histograms of squared gradients",
        ),
    ),
    *_in(
        "agents/run/tracking.py",
        "tests/run/test_tracking.py",
        ("step=step)", "step=None)", "a tracker counts rows for steps"),
    ),
    *_in(
        "agents/run/evaluator.py",
        "tests/run/test_seeing.py",
        (
            "steps = params.total_timesteps - first",
            "steps = params.total_timesteps",
            "a training that goes on evaluates as often as a whole one",
        ),
    ),
    *_in(
        "agents/run/metrics.py",
        "tests/run/test_metrics.py",
        (
            'yield self._row({"episode": {"r": return_, "l": length}} | info, progress)',
            'yield self._row({"episode": {"r": length, "l": return_}} | info, progress)',
            "--metrics: return and length are exchanged",
        ),
    ),
    *_in(
        "agents/run/models.py",
        "tests/run/test_models.py",
        (
            'if checkpoint == "best" and (run.best',
            'if checkpoint == "latest" and (run.best',
            "the best model is played where the latest is asked for",
        ),
    ),
    *_in(
        "agents/run/play.py",
        "tests/run/test_recording.py tests/run/test_models.py",
        (
            '"rescale_action": loaded.rescale_action}',
            '"rescale_action": False}',
            "a policy of rescaled actions is evaluated with clipped ones",
            "wrappers of the training that the evaluation lacks",
        ),
    ),
    *_in(
        "agents/run/recording.py",
        "tests/run/test_recording.py",
        (
            "    if checksum != _checksum(episode):",
            "    if not checksum:",
            "the checksum of a recorded episode is not compared",
        ),
        (
            "    same |= episode.observations.arguments\n",
            "",
            "replaying an episode, observations are neither cleaned nor stacked",
        ),
        (
            "if np.float32(moment.reward).tobytes() != np.float32(recorded).tobytes():",
            "if not np.isfinite(recorded):",
            "a recorded episode that plays otherwise is not noticed",
        ),
    ),
    *_in(
        "agents/run/hub.py",
        "tests/run/test_hub.py",
        (
            "if (value and _SECRET_NAME.search(name)) or _SECRET_VALUE.search(value):",
            "if value and _SECRET_NAME.search(name):",
            "hub: a secret under a harmless name is sent",
        ),
        (
            "there & FILES.keys() - set(files)",
            "there & set()",
            "hub: files of an earlier push are taken for parts of this one",
        ),
    ),
    *_in(
        "agents/evaluate.py",
        "tests/smoke/test_watch_evaluate.py tests/run/test_models.py",
        (
            "deterministic=not options.stochastic,\n                step_limit",
            "deterministic=True,\n                step_limit",
            "evaluate: --stochastic has no effect",
        ),
    ),
    *_in(
        "agents/lab/sb3_settings.py",
        "tests/lab/test_baselines.py",
        (
            "ticks = max(train_freq // n_envs, 1)",
            "ticks = train_freq",
            "SB3 gets a train_freq in steps where it counts ticks of all environments",
            "SB3's train_freq, which counts calls",
        ),
        (
            '"max_grad_norm"] = UNCLIPPED if values["max_grad_norm"] is None else values["max_grad_norm"]',
            '"max_grad_norm"] = 0.5 if values["max_grad_norm"] is None else values["max_grad_norm"]',
            "SB3 clips gradients where we do not",
        ),
    ),
    *_in(
        "agents/lab/sb3_policy.py",
        "tests/lab/test_sb3_policy.py",
        (
            "return arrays if self._normalizer is None else self._normalizer.normalize_obs(arrays)",
            "return arrays",
            "a model of SB3's is evaluated without its VecNormalize",
            "VecNormalize statistics that are not loaded with the model",
        ),
    ),
    *_in(
        "agents/lab/comparison/child.py",
        "tests/lab/comparison/test_sides.py",
        (
            "max((peak for *_, peak in parts if",
            "min((peak for *_, peak in parts if",
            "memory of one part stands for all",
        ),
    ),
    *_in(
        "agents/lab/comparison/entries.py",
        "tests/lab/comparison/test_trained.py",
        ("(run.steps - run.first_step) / run", "run.steps / run", "steps that others took count for a run's speed"),
    ),
    *_in(
        "agents/lab/stored.py",
        "tests/lab/test_listing.py",
        ("if kept.size else int(returns", "if False else int(returns", "the best is of a model that was not kept"),
    ),
    *_in(
        "agents/lab/stored.py",
        "tests/lab/test_listing.py",
        (
            "summary = found if found.steps >= steps else None",
            "summary = found",
            "a run that went on after its summary counts as finished",
        ),
        ("seed: Seed", "seed: Count", "a finished run with a large seed is damaged, and deleted as unfinished"),
    ),
    *_in(
        "agents/lab/statistics.py",
        "tests/lab/test_statistics.py",
        (
            "return np.median([task.mean(axis=-1) for task in tasks], axis=0)",
            "return np.mean([np.median(task, axis=-1) for task in tasks], axis=0)",
            "median: the mean of medians for the median of means",
            RELIABLE,
        ),
        (
            "largest = max(largest, min(1.0,",
            "largest = max(0.0, min(1.0,",
            "Holm: a smaller p may become the larger one",
        ),
        (
            "t.ppf(0.975, freedom)",
            "t.ppf(0.95, freedom)",
            "detectable differences of a one-sided test",
        ),
    ),
    *_in(
        "agents/lab/comparison/analysis.py",
        "tests/lab/comparison/test_verdict.py",
        (
            "outcome_of(self.found.value, self.adjusted)",
            "outcome_of(self.found.value, self.found.p)",
            "the verdict forgets how many comparisons there are",
            DEEP,
        ),
        (
            "float(np.exp(np.mean(np.log(ratios))))",
            "float(np.mean(ratios))",
            "ratios are averaged arithmetically",
            "Fleming & Wallace 1986",
        ),
    ),
    *_in(
        "agents/lab/comparison/curves.py",
        "tests/lab/comparison/test_results.py tests/lab/comparison/test_report.py",
        (
            "self.final.mean() if self.final.size else self.returns[-1]",
            "self.returns.max() if self.returns.size else self.final.mean()",
            "scores are those of the best evaluation instead of the final policy",
            DEEP,
        ),
    ),
    *_in(
        "envs/make.py",
        "tests/envs/test_masks.py",
        (
            "env.action_space.sample() if mask is None else allowed_sample(env.action_space, mask)",
            "env.action_space.sample()",
            "--vec auto times an environment by actions that it does not allow",
        ),
    ),
    *_in(
        "agents/view/observation.py",
        "tests/view/test_observation.py",
        (
            "if path == ACTION_MASK or layout_by(leaf, axes) is not None:",
            "if layout_by(leaf, axes) is not None:",
            "watch: masks are shown as numbers that the agent sees",
        ),
        (
            "path != ACTION_MASK and (layout := layout_by(leaf, axes))",
            'path != ACTION_MASK and (layout := layout_by(leaf, "auto"))',
            "watch: pictures are shown as they would be found, whatever picture_axes says",
        ),
    ),
    *_in(
        "agents/view/player.py",
        "tests/view/test_window.py",
        (
            'f"step {lane.at + 1:,} of {len(lane.tape.kept):,}"',
            'f"step {lane.at:,} of {len(lane.tape.kept):,}"',
            "watch: the place in an episode is counted from 0",
        ),
    ),
    *_in(
        "agents/acting/collector.py",
        "tests/acting/test_collector.py tests/run/test_loops.py",
        (
            "state.step += sum(steps)",
            "state.step += self._env.num_envs * ticks",
            "the count of steps has made-up ones in it",
        ),
        (
            "for row in done[t].nonzero()[0].tolist()]",
            "for row in done[t].nonzero()[0].tolist()[::-1]]",
            "infos of episodes that end together are those of one another",
        ),
    ),
    *_in(
        "agents/acting/evaluation.py",
        "tests/acting/test_evaluation.py",
        (
            'derive_seed(seed, "after a cut", resets)',
            "seed",
            "evaluation: after a cut the same episodes are played again",
        ),
        (
            "if tracker.lengths.max() >= limit:",
            "if tracker.lengths.max() > limit:",
            "evaluation: episodes are cut one step late",
        ),
    ),
    *_in(
        "agents/data/replay.py",
        "tests/data/test_replay.py",
        ("self.cut(~valid)", "self.cut(valid)", "replay: episodes are cut where no autoreset was"),
        (
            "self._level = (row + 1) % self.rows, min(size + 1, self.rows)",
            "self._level = (row + 1) % self.rows, min(size + 1, self.rows - 1)",
            "replay: the last row is never drawn",
        ),
    ),
    *_in(
        "agents/learning/learner.py",
        "tests/learning/test_learner.py tests/learning/test_modules.py tests/algos/test_ppo.py tests/algos/test_dqn.py",
        (
            "aux | {HEALTH: loss + norm, NORM: norm}",
            "aux | {HEALTH: loss, NORM: norm}",
            "a gradient that is not finite goes unnoticed where the parameters stay finite",
        ),
    ),
    *_in(
        "agents/learning/results.py",
        "tests/learning/test_learner.py tests/learning/test_modules.py tests/algos/test_ppo.py tests/algos/test_dqn.py",
        (
            'parts.get("train/loss", sum(parts.values()))',
            'parts.get("train/value_loss", sum(parts.values()))',
            "the loss at which a training diverged is another one",
        ),
    ),
    *_in(
        "agents/learning/optimizer.py",
        "tests/learning/test_optimizer.py",
        (
            'square.mul_(0.99 if self.name == "rmsprop" else 0.999)',
            "square.mul_(0.999)",
            "RMSprop: squares are forgotten at Adam's rate",
        ),
    ),
    *_in(
        "envs/space_json.py",
        "tests/envs/test_spaces.py",
        (
            'start = {"start": int(space.start)} if space.start else {}',
            "start = {}",
            "spaces: the start of Discrete is not saved with a model",
        ),
    ),
    *_in(
        "envs/adapters/checks.py",
        "tests/envs/test_autoreset_parity.py tests/envs/test_positions.py tests/envs/test_render.py",
        (
            "step.terminated & valid, step.truncated & valid",
            "step.terminated, step.truncated & valid",
            "made-up transitions may end an episode",
        ),
        (
            "reward = np.where(valid, step.reward, np.float32(0))",
            "reward = step.reward",
            "made-up transitions have a reward",
        ),
        (
            'unit = pixels.dtype.kind == "b" or (pixels.dtype.kind == "f" and high <= 1)',
            'unit = pixels.dtype.kind == "b"',
            "pictures of floats from 0 to 1 are black",
        ),
    ),
    *_in(
        "envs/adapters/infos.py",
        "tests/envs/test_autoreset_parity.py tests/envs/test_wrappers.py",
        (
            "if has is not None and not has[row]:",
            "if has is None:",
            "infos of vector environments are taken from those that gave none",
        ),
    ),
    *_in(
        "envs/native/arrays.py",
        "tests/envs/test_native.py tests/envs/test_own_dynamics.py",
        (
            "return values.copy()",
            "return values",
            "a saved position changes with the environment",
        ),
    ),
    *_in(
        "agents/run/config.py",
        "tests/run/test_config.py",
        (
            "return merge([*beneath, *layers], packaged=False)",
            "return merge([*layers, *beneath], packaged=False)",
            "the packaged configuration overrides the user's",
        ),
        ("value = before | value", "value = value | before", "env_kwargs of a file override those of flags"),
    ),
    *_in(
        "agents/run/run.py",
        "tests/run/test_resume.py tests/run/test_seeing.py",
        (
            "        evaluated = 0\n",
            "        evaluated = 0\n        self.monitor.handled = step\n",
            "an evaluation that broke off counts as done",
        ),
        (
            "            return\n        self.between_ticks = False\n",
            "            return\n",
            "a break in the first round after a resume takes the exact checkpoint's place",
        ),
        (
            "self.training.state_dict(with_env=self.between_ticks)",
            "self.training.state_dict(with_env=True)",
            "a position in the middle of a tick is saved as if it were whole",
        ),
        (
            "self.monitor.evaluated += evaluated",
            "self.monitor.evaluated = evaluated",
            "the share of evaluations forgets",
        ),
    ),
    *_in(
        "agents/run/run.py",
        "tests/run/test_one_instance.py",
        (
            "            self.training.begin_episodes()",
            "            pass",
            "one environment for all: training goes on in an evaluation's episode",
        ),
    ),
    *_in(
        "agents/run/monitor.py",
        "tests/run/test_runner.py tests/run/test_seeing.py",
        (
            "self._paused = self._earlier - (saved",
            "self._paused = 0.0 * (saved",
            "resume: evaluations before it count as training",
        ),
        (
            "return (step - self.first) / max(self.elapsed(), 1e-9)",
            "return step / max(self.elapsed(), 1e-9)",
            "steps of an earlier training count in the speed of this one",
        ),
        (
            'found["rollout/ep_rew_mean"] = fmean(self.returns)',
            'found["rollout/ep_rew_mean"] = sorted(self.returns)[len(self.returns) // 2]',
            "ep_rew_mean is a median",
        ),
        (
            "            self._rest_since = now",
            "            pass",
            "time tables: what follows a row counts in two of them",
        ),
    ),
    *_in(
        "agents/core/runtime.py",
        "tests/core/test_runtime.py",
        ("folder.mkdir(mode=0o700", "folder.mkdir(mode=0o755", "what is compiled lies where others may look and write"),
    ),
    *_in(
        "agents/networks/pictures.py",
        "tests/networks/test_pictures.py",
        (
            "        if self.training:",
            "        if not self.training:",
            "pictures: acting pays for what learning gains by",
        ),
    ),
    *_in(
        "agents/run/compiling.py",
        "tests/run/test_compiling.py",
        (
            "(1 - LEFT[config.compile]) * ahead - COST)",
            "(1 - LEFT[config.compile]) * ahead)",
            "compiling is told to save what it costs itself",
        ),
        (
            "(params.total_timesteps - training.step)",
            "params.total_timesteps",
            "compiling is told to save what is over",
        ),
    ),
    *_in(
        "agents/core/precision.py",
        "tests/core/test_precision.py",
        (
            "        return tree_map(torch.Tensor.float, found)",
            "        return found",
            "bf16: distributions are coarse too",
        ),
        ('        return "tf32" if device', '        return "float32" if device', "precision: auto is exact on CUDA"),
        (
            "torch.backends.cudnn.allow_tf32 = precision == ",
            "torch.backends.cudnn.allow_tf32 = precision != ",
            "precision: convolutions are shortened where asked to be exact",
        ),
    ),
    *_in(
        "agents/run/models.py",
        "tests/core/test_precision.py",
        (
            "    set_precision(policy.model, config.precision)",
            "    pass",
            "bf16: a loaded policy acts in other numbers than it learnt in",
        ),
    ),
    *_in(
        "agents/run/build.py",
        "tests/core/test_precision.py",
        ('"compile": mode, "precision": precision}', '"compile": mode}', "precision: what auto came to is forgotten"),
    ),
    *_in(
        "agents/acting/numpy_inference.py",
        "tests/core/test_precision.py",
        ("    if encoder.bf16 or torso.bf16:", "    if encoder.bf16 is None:", "bf16: NumPy acts in float32"),
    ),
    *_in(
        "agents/lab/benchmark/ours.py",
        "tests/lab/benchmark/test_workers.py",
        ("    if abs(told - 1) > TOLERANCE:", "    if told - 1 > TOLERANCE:", "benchmark: a table of half of the time"),
        (
            "    if preparing > MOST_PREPARING:",
            "    if preparing > 1:",
            "benchmark: compiling counts as learning",
        ),
        ("for row in rows[first:]:", "for row in rows:", "benchmark: parts of another interval than their total"),
    ),
    *_in(
        "agents/core/runtime.py",
        "tests/core/test_runtime.py",
        (
            "runtime.preparing = before + perf_counter() - began",
            "runtime.preparing += perf_counter() - began",
            "time tables: a first call within another counts twice",
        ),
    ),
    *_in(
        "agents/run/storage.py",
        "tests/run/test_storage.py",
        (
            "            _sync(temporary)\n            os.replace",
            "            os.replace",
            "files take their place before they are on the disk",
            "rename without fsync",
        ),
        (
            '            for written in sorted(temporary.rglob("*")):\n                _sync(written)\n',
            "",
            "folders take their place before their files are on the disk",
            "rename without fsync",
        ),
        (
            "            if path.exists():\n                shutil.rmtree(left)",
            "            if not path.exists():\n                shutil.rmtree(left)",
            "what a killed replacement left is deleted where it should come back",
        ),
    ),
    *_in(
        "agents/run/sinks.py",
        "tests/run/test_sinks.py",
        ('text[: text.rfind("\\n") + 1]', "text", "resume: a torn last row is taken for whole"),
    ),
    *_in(
        "envs/adapters/checks.py",
        "tests/envs/test_env_errors.py",
        (
            'if array.dtype.kind in "biuf" and array.ndim == 1:',
            "if array.ndim == 1:",
            "a reward that is text is taken for a number",
        ),
    ),
    *_in(
        "agents/api/model.py",
        "tests/test_api.py",
        (
            'derive_seed(arguments.seed(seed), "evaluate")',
            'derive_seed(arguments.seed(seed), "final")',
            "model.evaluate plays other episodes than the command does",
        ),
        (
            "monitor.returns, monitor.lengths = self._monitor.returns",
            "monitor.returns, monitor.lengths = monitor.returns",
            "means of episodes begin anew with each call of train",
        ),
    ),
    *_in(
        "agents/api/trainable.py",
        "tests/test_api.py",
        (
            'total = step + arguments.whole("total_timesteps", total_timesteps)',
            'total = arguments.whole("total_timesteps", total_timesteps)',
            "learn called again counts its steps from 0",
        ),
        (
            "training.algorithm.model.load_state_dict(loaded.policy.model.state_dict())",
            "training.algorithm.model.load_state_dict(training.algorithm.model.state_dict())",
            "a loaded model learns from scratch",
        ),
        (
            "self._loaded, self._kept = self._training, self._now(), self._state(with_env)",
            "self._loaded, self._kept = self._training, self._now(), None",
            "a model that was closed learns on without its replay buffer and its optimiser's moments",
        ),
        (
            "            self._broke_off(error)\n",
            "            pass\n",
            "after Ctrl-C a model learns from transitions that never were",
        ),
    ),
    *_in(
        "agents/lab/baselines.py",
        "tests/lab/test_baselines.py",
        (
            "VecNormalize(env, training=False, norm_obs=statistics.norm_obs, norm_reward=False)",
            "VecNormalize(env, training=True, norm_obs=statistics.norm_obs, norm_reward=False)",
            "SB3's normalisation learns from the episodes that score it",
            "SB3's VecNormalize with training=True in evaluations",
        ),
        ("return lambda left: left * start", "return lambda left: (1 - left) * start", "SB3's schedules rise"),
        (
            "return (steps - first) / max(seconds - then, 1e-9)",
            "return steps / max(seconds - then, 1e-9)",
            "the steady speed counts the steps before it",
        ),
    ),
    *_in(
        "agents/lab/comparison/job.py",
        "tests/lab/comparison/test_sides.py",
        (
            "== (self.env, self.algo) else own",
            "== (self.env, self.algo) else plain",
            "compare: tasks of names that are alike share a folder",
        ),
        (
            "all(found.get(name) == own[name]",
            "all(name in found",
            "compare: a training of another task is taken for this one",
        ),
    ),
    *_in(
        "agents/lab/comparison/trained.py",
        "tests/lab/comparison/test_trained.py",
        (
            "label = curve.key.label if len(algos) == 1 else",
            "label = curve.key.label if True else",
            "compare RUN: imported curves of several algorithms are seeds of one side",
        ),
        (
            'keys_of(curves, ", ".join(map(str, read)))',
            "pass",
            "compare RUN: a curve that is imported twice is averaged with itself",
        ),
        (
            "if curve.key.env == place]",
            "if curve.key.env in (place, here[0].env)]",
            "compare RUN: curves of the plain environment join runs with arguments",
        ),
    ),
    *_in(
        "agents/lab/comparison/training.py",
        "tests/lab/comparison/test_sides.py",
        (
            'evaluator.evaluate(policy, job.final_eval_episodes, "final")',
            'evaluator.evaluate(policy, job.final_eval_episodes, "last")',
            "the two sides are scored on different episodes",
            DEEP,
        ),
        (
            'load_policy(path, "latest", trust=trust)',
            'load_policy(path, "best", trust=trust)',
            "a run that is compared is scored by the model that its evaluations chose",
            DEEP,
        ),
    ),
    *_in(
        "envs/spaces.py",
        "tests/envs/test_positions.py",
        (
            "np.array_equal(a[0], b[row], equal_nan=True)",
            "np.shape(a[0]) == np.shape(b[row])",
            "resume: any observation counts as the one that was saved",
        ),
    ),
    *_in(
        "agents/run/config.py",
        "tests/run/test_one_instance.py",
        (
            'merged["n_steps"] = (steps * many, alone)',
            'merged["n_steps"] = (steps, alone)',
            "--one-instance shrinks the rollout to one environment's part",
        ),
    ),
    *_in(
        "envs/words.py",
        "tests/envs/test_words.py",
        ("[-MOST_SYMBOLS:]", "[:MOST_SYMBOLS]", "of a long sequence the first symbols are kept, not the last"),
        ("= numbers + 1", "= numbers", "a sequence's symbol 0 cannot be told from its end"),
        ('.decode("utf-8", "ignore").encode()', "", "a long text ends in half a character"),
    ),
    *_in(
        "agents/networks/words.py",
        "tests/networks/test_words.py",
        (
            "x * self.powers[place - first]",
            "x * self.powers[place]",
            "a word's hash depends on where in the text it is",
        ),
        ("inside & (which <= self.count)", "inside", "words beyond the last one that is read break the encoder"),
        ("attn_mask=mask", "attn_mask=None", "the transformer attends to what comes after a text's end"),
        (
            "torch.where(is_there[:, None], self.cell(symbol, h), h)",
            "self.cell(symbol, h)",
            "the GRU reads on after it",
        ),
        ("x.long() + 1 if self.shifted", "x.long() if self.shifted", "MultiDiscrete's value 0 is read as an end"),
    ),
    *_in(
        "envs/adapters/minigrid.py",
        "tests/envs/test_minigrid.py",
        ('.startswith("RGB")', '.startswith("Rgb")', "MiniGrid's pixels are taken for numbers of objects"),
    ),
    *_in(
        "agents/core/saved.py",
        "tests/envs/test_words.py",
        ("most = space.nvec", "most = space.nvec + 9", "a saved sequence may name symbols that there are not"),
    ),
    *_in(
        "envs/adapters/stacking.py",
        "tests/envs/test_stacking.py",
        (
            "stack.push(self._kept, step.next_obs)",
            "stack.push(self._kept, step.obs)",
            "stacked frames: an episode ends with the first picture of the next one",
            VECTOR,
        ),
        (
            "self._kept = stack.restart(self._kept, starts, step.obs)",
            "self._kept = stack.push(self._kept, step.obs)",
            "stacked frames go over from an episode to the next",
        ),
        ("old[:, 1:], seen[name][:, None]", "seen[name][:, None], old[:, :-1]", "the newest frame comes first"),
    ),
    *_in(
        "envs/adapters/around.py",
        "tests/envs/test_stacking.py",
        ("self._kept = dict(zip(mine, arrays, strict=True))", "pass", "a resumed run forgets its frames"),
    ),
    *_in(
        "envs/adapters/cleaning.py",
        "tests/envs/test_cleaning.py",
        (
            "kept = filled_anew(self._cleaner, self._kept, starts)",
            "kept = self._kept",
            "an episode's first observation is filled with the last of the one before",
        ),
        ("self.counts = counted + self._only(step.obs, kept, starts)", "pass", "faults of a reset are not counted"),
        ("if step.obs is not step.next_obs:", "if True:", "faults of an end are counted twice"),
        ("low[bounded] / 2 + high[bounded] / 2", "low[bounded]", "an episode's first value is filled with its bound"),
    ),
    *_in(
        "agents/ops/augment.py",
        "tests/ops/test_augment.py",
        ("number * (2 * pad + 1)", "number * (2 * pad)", "a shift goes further to one side than to the other"),
        (".clamp(0, height - 1)", ".remainder(height)", "what a shift leaves comes in on the other side"),
        ("column.shape[2] - 1 - column", "column.shape[2] - 2 - column", "a flip moves by a pixel"),
        ("(at + 0.5) * part", "at * part", "a zoom moves by half a pixel"),
        ("share.clamp(0, 1)", "share", "colours leave their bounds, and bytes wrap around"),
    ),
    *_in(
        "agents/learning/learner.py",
        "tests/networks/test_augmentation.py",
        (
            "data = data._replace(obs=obs, next_obs=next_obs)",
            "data = data._replace(obs=obs)",
            "DrQ: targets are of pictures as they are",
        ),
        (
            'data["augmented"] = self._augment(',
            'data["obs"] = self._augment(',
            "PPO: ratios compare the policy on augmented pictures with that on those it acted on",
            "Raileanu et al. 2021, arXiv:2006.12862, sec. 3.1: naive use of augmentation in PPO",
        ),
    ),
    *_in(
        "agents/algos/ppo/algorithm.py",
        "tests/networks/test_augmentation.py",
        ("judged - value.detach()", "judged - value", "DrAC: values of pictures move towards those of augmented ones"),
        ("gap - distribution.log_prob(", "gap + distribution.log_prob(", "DrAC: the policies are driven apart"),
    ),
    *_in(
        "agents/run/dry.py",
        "tests/run/test_dry.py",
        ("max(total - starts, 0) / rate", "total / rate", "--dry-run: the steps before learning are counted twice"),
        (
            '"memory" if replay.replay_storage == "disk"',
            '"disk" if replay.replay_storage == "disk"',
            "--dry-run writes",
        ),
    ),
    *_in(
        "agents/networks/pictures.py",
        "tests/networks/test_pictures.py",
        ("len(space.shape) != len(axes)", "False", "axes that were set are taken for those of every array"),
        (
            "high = np.where(bounded, low, 0), np.where(bounded, high, 1)",
            "high = low, high",
            "pictures without bounds are 0",
        ),
    ),
    *_in(
        "agents/run/doctor/sink.py",
        "tests/run/test_doctor.py",
        ("found.badness >= WORSE *", "found.badness >= 1.0 *", "the doctor repeats itself"),
        ("if found.step <= since]", "if found.step > since]", "a resumed run forgets what the doctor said"),
        ("tensor.clone() for name", "tensor for name", "the last good model goes bad with the present one"),
        (
            "step - self._good[0] < KEEP",
            "step - self._good[0] > KEEP",
            "the model that is brought back is a run's first",
        ),
    ),
    *_in(
        "agents/run/doctor/vitals.py",
        "tests/run/test_doctor.py",
        ("result.amax(rows) <= 0", "result.amin(rows) <= 0", "a unit that is 0 once counts as dead"),
        ("(result.abs() > 0.99)", "(result > 0.99)", "tanh saturated at -1 goes unnoticed"),
        ("kept = data.valid.flatten()", "kept = ~data.valid.flatten()", "the doctor looks at dummy transitions"),
        ("np.std(list(returns), ddof=1)", "0.0", "the doctor takes all episodes for equal"),
        ("(size > 0).sum()", "size.numel() * (size > 0).any()", "the size of rewards is their mean over all steps"),
    ),
    *_in(
        "agents/run/doctor/history.py",
        "tests/run/test_illnesses.py",
        ("points[newest:]]", "points[:newest]]", "the doctor looks at old rows alone"),
        ("del series[1:-1:2]", "del series[MOST_POINTS:]", "of a long run the doctor sees the beginning alone"),
        ("(best - first), chance)", "(best - first), 0.0)", "returns that rose by chance count as learnt"),
        ("max(self.first(DEVIATION) or 0.0, ", "max(0.0, ", "a policy that has become certain has no chance in it"),
    ),
    *_in(
        "agents/run/doctor/experience.py",
        "tests/run/test_illnesses.py",
        ("min(gaps) > 1", "True", "the doctor says of every run that evaluations are far from training"),
        ("or exploring > 0.1 or", "or", "evaluations are compared with training while most actions are random"),
        (
            'if h.now("eval/cut_episodes", 1):',
            "if False:",
            "evaluations that were cut are compared with whole episodes",
        ),
    ),
    *_in(
        "agents/run/doctor/updates.py",
        "tests/run/test_illnesses.py",
        ("now > PINNED", "now < PINNED", "a healthy clip fraction is an illness"),
        (
            'h.recent("train/approx_kl", FEW_ROWS)',
            'h.recent("train/approx_kl", 1)',
            "a large update among a run's first is over before it can be told",
        ),
        (
            'h.now("train/explained_variance", FEW_ROWS)',
            'h.first("train/explained_variance")',
            "a value function is judged by its first values",
        ),
    ),
    *_in(
        "agents/run/doctor/diverged.py",
        "tests/run/test_doctor.py",
        ("int(row) % num_envs", "int(row) // num_envs", "of a replayed batch another environment is blamed"),
    ),
    *_in(
        "agents/lab/checkup/play.py",
        "tests/lab/checkup/test_environment.py",
        ("np.maximum(found.high[name]", "np.minimum(found.high[name]", "the check-up takes all numbers for constant"),
        ("bool(told) and not truncated", "bool(told) and truncated", "the check-up blames time limits told truly"),
    ),
    *_in(
        "agents/lab/checkup/environment.py",
        "tests/lab/checkup/test_environment.py",
        ("if beyond > BEYOND else", "if beyond > 1e9 else", "observations far outside their space are no fault"),
        ('("the same environment", again), ', "", "what an environment keeps over its resets goes unnoticed"),
    ),
    *_in(
        "agents/lab/checkup/logs.py",
        "tests/lab/checkup/test_logs.py",
        ('if tag == "losses/entropy"', 'if tag == "entropy"', "CleanRL's entropy is taken for SB3's loss"),
        ("value = fmean(episodes[tag])", "value = float(value)", "the doctor takes one episode for the mean of many"),
    ),
    *_in(
        "agents/view/explanation/attribution.py",
        "tests/view/explanation/test_attribution.py",
        ("leaf.detach()[None]", "torch.zeros_like(leaf)[None]", "integrated gradients begin elsewhere than they say"),
    ),
    *_in(
        "agents/view/explanation/decisions.py",
        "tests/view/explanation/test_decisions.py",
        (".squeeze(-1) - mean", ".squeeze(-1)", "a preference holds the state's value"),
        ("1 - p[np.concatenate(coins)]", "[]", "indecision: of coins only heads count"),
        ("torch.where(others, numbers, 0).sum(-1)", "numbers.sum(-1)", "illegal actions count as others"),
        ('outputs["probabilities"] > 0', 'outputs["probabilities"] >= 0', "what has probability 0 counts as legal"),
        ("heads.clamp(min=LEAST).log() -", "heads.log() -", "a probability of 0 has an infinite logarithm"),
        ("action.clip(space.low, space.high)", "action", "actions differ by what the environment clips"),
    ),
    *_in(
        "agents/view/explanation/effects.py",
        "tests/view/explanation/test_effects.py",
        ("np.abs(leaf) * of_leaf[path]", "np.abs(leaf)", "a number that never changes counts by its gradient"),
    ),
    *_in(
        "agents/view/explanation/states.py",
        "tests/view/explanation/test_effects.py",
        ("self._rng.integers(self._seen)", "self._rng.integers(self._size)", "a sample holds the last states alone"),
        (
            "act(self._see(tree_map(to_numpy, obs), carry), carry, noise)",
            "act(obs, carry, noise)",
            "nothing is replaced",
        ),
    ),
    *_in(
        "agents/view/explanation/features.py",
        "tests/view/explanation/test_features.py",
        ("self.leaf(others), self.leaf(obs)", "self.leaf(obs), self.leaf(others)", "all but the feature is replaced"),
    ),
    *_in(
        "agents/view/explanation/timeline.py",
        "tests/view/explanation/test_timeline.py",
        ("0.0 if last.terminated else np.nan", "0.0", "surprise: what follows a time limit is worth nothing", LIMITS),
        ("reward[-1] if last.terminated else value[-1]", "reward[-1]", "a return ends with its time limit", LIMITS),
        ("rewards.gamma * after - value", "after - value", "surprise without discount"),
        ("reward = np.sign(reward)", "pass", "values of clipped rewards are compared with rewards that are not"),
        ("env, timeline.seed, lambda", "env, 0, lambda", "pictures of another episode"),
    ),
    *_in(
        "agents/acting/policies.py",
        "tests/view/test_saliency.py",
        (
            "numbers.transpose(0, 1).flatten(1)",
            "numbers.flatten(0, 1)",
            "quantiles of other states are shown",
        ),
    ),
    *_in(
        "agents/view/film.py",
        "tests/view/test_film.py",
        (
            "load(str(step)) if step else untrained(last)",
            "load(str(step)) if step else last",
            "0%: the trained policy plays",
        ),
        ("at = round(share * (GRID - 1))", "at = 0", "the curve's marker stays where it is"),
    ),
    *_in(
        "agents/run/models.py",
        "tests/view/test_film.py",
        ("loaded.config.params, loaded.seed)", "loaded.config.params, 0)", "the untrained policy is another seed's"),
    ),
    *_in(
        "agents/data/dataset.py",
        "tests/data/test_dataset.py",
        (
            "np.arange(len(self)) + self.episode",
            "np.arange(len(self))",
            "data: episodes' last observations are forgotten",
        ),
        ("np.arange(a + e, b + e + 1)", "np.arange(a, b + 1)", "data: episodes taken with the observations of others"),
    ),
    *_in(
        "agents/data/inspection.py",
        "tests/data/test_dataset.py",
        ("rows[first] | rows[first + 1]", "rows[first]", "data: NaN in a successor is not seen"),
        ("kept[touched] = False", "kept[touched] = True", "data: what is to be dropped stays"),
        ("reward[chosen + shift]", "reward[chosen - shift]", "data: late rewards are called early"),
    ),
    *_in(
        "agents/run/datasets/columns.py",
        "tests/run/test_datasets.py",
        (
            "if len(content) != size:",
            "if len(content) < size:",
            "npz: what comes after the numbers that a header says is taken",
        ),
    ),
    *_in(
        "agents/run/datasets/columns.py",
        "tests/run/test_columns.py",
        ('flags["ended"] & ~flags["truncated"]', 'flags["ended"]', "data: time limits of SB3's dones are terminations"),
        (
            "end - int(after is None and not terminated[end - 1])",
            "end",
            "data: a last observation is its own successor",
        ),
    ),
    *_in(
        "agents/lab/checkup/dataset.py",
        "tests/lab/checkup/test_dataset.py",
        (
            "making(env_id, env_kwargs=env_kwargs, wrappers=wrappers)",
            "making(env_id, env_kwargs=env_kwargs)",
            "data: episodes are played again without the wrappers that they were recorded with",
        ),
    ),
    *_in(
        "agents/run/datasets/minari.py",
        "tests/run/test_datasets.py",
        (
            "if found.external or found.is_virtual:",
            "if found.is_virtual:",
            "hdf5: numbers are read from any file of the machine",
        ),
        ("h5().HardLink):", "h5().HardLink | h5().ExternalLink):", "hdf5: links lead into other files"),
    ),
    *_in(
        "agents/run/datasets/recorder.py",
        "tests/run/test_datasets.py",
        (
            "range(first, count):",
            "range(0, count - first):",
            "recording: one that goes on records its first episodes again",
        ),
        ("policies[index % len(policies)]", "policies[0]", "recording: all episodes are of one checkpoint"),
    ),
    *_in(
        "agents/acting/playback.py",
        "tests/run/test_imitation.py",
        ("data.cut", "data.truncated", "bc: an episode that breaks off leads into the next one"),
        ("self._rows[place[-1]] + 1", "self._rows[place[-1]]", "bc: what a trajectory ends in is its last observation"),
        ('"pass", index', '"pass", 0', "bc: each pass has the same order"),
    ),
    *_in(
        "agents/core/algorithm.py",
        "tests/run/test_imitation.py",
        (
            "0 < self.config.patience <= int(self.stale)",
            "0 < self.config.patience < int(self.stale)",
            "bc: one pass too many",
        ),
        ("min(float(found), float(self.lowest))", "float(found)", "bc: the last loss is taken for the lowest"),
    ),
    *_in(
        "agents/algos/bc/algorithm.py",
        "tests/run/test_imitation.py",
        ("-likelihood - self", "-likelihood + self", "bc: entropy is punished"),
    ),
    *_in(
        "agents/run/imitation.py",
        "tests/run/test_imitation.py",
        (
            "first[:, None])\n",
            "0)\n",
            "bc: stacked observations reach into the episode before",
        ),
        ("start + episode, start + episode + length", "start, start + length", "bc: held-out observations of others"),
    ),
    *_in(
        "agents/ops/scores.py",
        "tests/ops/test_scores.py",
        ("taken * actions + foretold", "foretold * actions + taken", "scores: precision and recall are exchanged"),
        ("np.nanmean(f1)", "np.nan_to_num(f1).mean()", "scores: actions that are not there count as 0 in macro F1"),
    ),
    *_in(
        "agents/ops/relative.py",
        "tests/ops/test_relative.py",
        ("2 * (one.log_std - other.log_std)", "2 * (other.log_std - one.log_std)", "KL: deviations are exchanged"),
        ("p * (log(logits)", "(1 - p) * (log(logits)", "KL: of coins the wrong side counts"),
    ),
    *_in(
        "agents/algos/ppo/algorithm.py",
        "tests/algos/test_ppo_demonstrator.py",
        ('loss + constants["demonstrator_coef"] * away', "loss + away", "demonstrator: its weight never falls"),
    ),
    *_in(
        "agents/core/recorded_config.py",
        "tests/algos/test_ppo_demonstrator.py tests/algos/test_q_demonstrator.py",
        ("1 - progress / self", "1 - progress * self", "demonstrator: its weight falls too late"),
        (
            "max(1 - progress / self.demonstrator_fraction, 0.0)",
            "(1 - progress)",
            "demonstrator: its weight never is 0",
        ),
    ),
    *_in(
        "agents/ops/values.py",
        "tests/ops/test_values.py",
        ("shown_B1, q_BA, q_BA + margin)", "shown_B1, q_BA + margin, q_BA)", "demonstrator: others are to be ahead"),
    ),
    *_in(
        "agents/networks/demonstrator.py",
        "tests/algos/test_q_demonstrator.py",
        ("masked(numbers_BA, action_mask(obs))", "numbers_BA", "demonstrator: an illegal action is to be ahead"),
    ),
    *_in(
        "agents/algos/dqn/algorithm.py",
        "tests/algos/test_q_demonstrator.py",
        ('loss_B + constants["demonstrator_coef"] * below_B', "loss_B + below_B", "demonstrator: DQN's stays as heavy"),
    ),
    *_in(
        "agents/algos/pqn/algorithm.py",
        "tests/algos/test_q_demonstrator.py",
        ('minibatch["obs"], q, margin), valid)', 'minibatch["obs"], q, margin))', "demonstrator: dummies count too"),
    ),
    *_in(
        "agents/networks/parts.py",
        "tests/run/test_transfer.py",
        ("found[other.get(part, part) + point + rest]", "found[name]", "transfer: a policy's torso begins anew in DQN"),
    ),
    *_in(
        "agents/run/transfer.py",
        "tests/run/test_transfer.py",
        (
            'if found.activation not in ("", mine)',
            'if found.activation in ("",)',
            "transfer: another activation goes unsaid",
        ),
    ),
    *_in(
        "agents/acting/playback.py",
        "tests/run/test_imitation.py",
        ("state.step = step  # it", "pass  # it", "dagger: steps of asking count as learnt from"),
        (
            'labels.reshape(*columns["reward"].shape',
            'columns["action"].reshape(*columns["reward"].shape',
            "dagger: the policy's own actions are its labels",
        ),
    ),
    *_in(
        "agents/data/dataset.py",
        "tests/run/test_imitation.py",
        ("b[part][-1:]", "a[part][-1:]", "dagger: an episode ends in its last observation twice"),
    ),
    *_in(
        "agents/run/imitation.py",
        "tests/run/test_offline.py",
        ("data.at(data.rows[place] + 1)}", "data.at(data.rows[place])}", "offline: a state is its own successor"),
        (
            "data.cut[place]",
            "data.truncated[place]",
            "offline: an episode that breaks off leads into the next one",
        ),
    ),
    *_in(
        "agents/run/loops.py",
        "tests/run/test_offline.py",
        (
            "min(state.step + config.replay.train_freq, until)",
            "state.step + 1",
            "offline: more updates than steps ask for",
        ),
    ),
    *_in(
        "agents/learning/kernels/in_triton.py",
        "tests/learning/test_surrogate.py",
        (
            "tl.load(high) * tl.maximum(gained, 0.0) - tl.load(low) * tl.minimum",
            "tl.load(low) * tl.maximum(gained, 0.0) - tl.load(high) * tl.minimum",
            "kernel: ratios rise as far as they should fall",
        ),
        ("tl.where(gain > limit, 0.0, ", "tl.where(gain > limit, 1.0, ", "kernel: clipped ratios are learnt from"),
        (
            "(surprise + probability * uncertain[:, None])",
            "surprise",
            "kernel: the entropy's slope leaves out the normalisation",
        ),
        (
            "within = real & (tl.abs(change) <= clip_range_vf)",
            "within = real",
            "kernel: clipped values are learnt from",
        ),
        ("(noise * noise - 1.0)", "(noise * noise)", "kernel: deviations only grow"),
        (
            "slope = tl.where(real, slope, 0.0)",
            "slope = slope * 1.0",
            "kernel: rows beyond a minibatch are learnt from",
        ),
        ("tl.where(at < size, found * found, 0.0)", "found * found", "kernel: losses are part of the gradient's norm"),
        ("mask=mine, other=0.0) * decay", "mask=mine, other=0.0)", "kernel: AdamW without its decay"),
        ("tl.where(factor > 1.0, 1.0, factor)", "factor", "kernel: small gradients are made larger"),
        (
            "- ent_coef * entropy + norm)",
            "- ent_coef * entropy)",
            "kernel: a gradient that is not finite goes unnoticed",
        ),
        (
            "dz = _back(tl.dot(dz, W2_back",
            "dz = _back(tl.dot(dz, tl.trans(W2_back)",
            "kernel: weights across, going back",
        ),
    ),
    *_in(
        "agents/learning/kernels/surrogate.py",
        "tests/learning/test_surrogate.py",
        ("rows // count + (index < rows % count)", "rows // count", "kernel: the last rows are left out"),
        (
            "return torch.cat(parts, dim=1).flatten(0, 1)",
            "return torch.cat(parts, dim=1).flatten(0, 1).flip(0)",
            "kernel: advantages normalised by another minibatch",
        ),
    ),
    *_in(
        "agents/learning/kernels/networks.py",
        "tests/learning/test_surrogate.py",
        ('or changed or "forward" in vars(module)', "or changed", "kernel: a layer's own function is passed over"),
        ("type(module) not in PLAIN or changed", "type(module) not in PLAIN", "kernel: hooks are passed over"),
        (
            "if list(views) != [name for name, _ in model.named_parameters()]:",
            "if not views:",
            "kernel: frozen parts are taken for others",
        ),
    ),
    *_in(
        "agents/algos/ppo/algorithm.py",
        "tests/learning/test_surrogate.py",
        (
            "more = [config.dual_clip, config.desired_kl,",
            "more = [config.desired_kl,",
            "kernel: dual_clip is passed over",
        ),
        (" or type(self).loss is not PPO.loss", "", "kernel: a loss of one's own is passed over"),
    ),
    *_in(
        "agents/core/checked.py",
        "tests/core/test_runtime.py",
        (
            "                copy_into(state, before)\n                result = kernel(*args)",
            "                result = kernel(*args)",
            "kernel: the steps that are compared are taken twice",
        ),
    ),
    *_in(
        "agents/ops/losses.py",
        "tests/ops/test_losses.py",
        ("error_B < 0, 1 - expectile, expectile", "error_B < 0, expectile, 1 - expectile", "IQL: the other expectile"),
        (".exp().clamp(max=most)", ".clamp(max=most).exp()", "IQL: the exponent is bounded, not the weight"),
    ),
    *_in(
        "agents/algos/iql/algorithm.py",
        "tests/algos/test_iql.py",
        ("values.value(self.target(", "values.value(model.critics(", "IQL: values follow the critics without a target"),
        (
            'minibatch["discount"], model.value(next_obs)',
            'minibatch["discount"], model.value(obs)',
            "IQL: critics learn from the value of the state itself",
        ),
        ("worth - value.detach()", "value.detach() - worth", "IQL: the worse actions are cloned"),
        (
            "data.action.clamp(self.low, self.high)",
            "data.action",
            "IQL: critics are asked about actions beyond their bounds",
        ),
        ("follow(*self._tensors, self.config.tau)", "follow(*self._tensors, 1.0)", "IQL: the target is the critics"),
    ),
    *_in(
        "agents/core/recorded_config.py",
        "tests/run/test_offline.py",
        ("required: ClassVar[bool] = False", "required: ClassVar[bool] = True", "DQN cannot be trained without data"),
    ),
    *_in(
        "agents/ops/values.py",
        "tests/ops/test_values.py",
        (
            "logits_BA - logits_BA.amax(-1, keepdim=True) >= ",
            "logits_BA.log_softmax(-1) >= ",
            "BCQ: probabilities themselves are compared with the threshold, so that none may be left",
            "Fujimoto et al. 2019, arXiv:1910.01708",
        ),
    ),
    *_in(
        "agents/algos/dqn/algorithm.py",
        "tests/algos/test_dqn_bcq.py",
        ("loss_B + cloned_B", "loss_B + 0 * cloned_B", "BCQ: what is likely in the data is not learnt"),
        ("self.model.choice(after).amax(1)", "after.q.amax(1)", "BCQ: targets take the best of all actions"),
        (
            'self.model.choice(self._look(model, "online", minibatch, noise["choice"], ahead=True))',
            'self._look(model, "online", minibatch, noise["choice"], ahead=True).q',
            "BCQ: Double DQN chooses among all actions",
        ),
    ),
    *_in(
        "agents/networks/models.py",
        "tests/algos/test_dqn_bcq.py",
        (
            "masked(self.behaviour(features), mask)",
            "self.behaviour(features)",
            "BCQ: an illegal action is the likeliest",
        ),
        (
            "self.choice(self._heads(features, mask, noise)), carry",
            "self._heads(features, None, noise).q, carry",
            "BCQ: it acts by all actions",
        ),
        ("self.head if self.behaviour is None else self.behaviour", "self.head", "BCQ: NumPy acts by all actions"),
    ),
    *_in(
        "agents/lab/off_policy.py",
        "tests/lab/test_off_policy.py",
        (
            "laid_out(data, log_ratio).cumsum(axis=1)",
            "laid_out(data, log_ratio).sum(axis=1, keepdims=True) + laid_out(data, 0 * log_ratio)",
            "importance sampling: rewards are weighed by what was done after them",
            "Precup et al. 2000",
        ),
        ("own - theirs, gamma", "theirs - own, gamma", "importance sampling: the ratio is upside down"),
        (
            "goes_on = gamma * ~torch.from_numpy(data.terminated)",
            "goes_on = gamma * torch.ones(len(data))",
            "fitted Q: episodes that ended go on",
        ),
        (
            "obs), drawn)[0, :, 0]",
            "obs), numbers[place])[0, :, 0]",
            "fitted Q: the value is that of the data's own policy",
        ),
        ("/ legal.sum(1)", "/ q.shape[1] * 0", "importance sampling: a policy that explores counts as greedy"),
    ),
    *_in(
        "agents/data/inspection.py",
        "tests/data/test_dataset.py",
        ("not (rest == free[0]).any()", "True", "data: rewards that are the same count as moved"),
        ("(cut, ~last, -1)", "(last, ~last, -1)", "data: a reward for the end counts as moved"),
    ),
    *_in(
        "agents/networks/representation.py",
        "tests/networks/test_representation.py",
        (
            "target if layout is None else layout.fold(target)",
            "target if layout is None else layout.fold(target).flip(2)",
            "autoencoder: pictures are put together upside down",
        ),
        (
            "seen = self.whitened(obs)\n        errors",
            "seen = obs\n        errors",
            "autoencoder: numbers are not whitened",
        ),
        (
            "        with torch.no_grad():\n            keys = self.keys(obs)",
            "        keys = self.project(self.keys[0](obs))",
            "curl: keys come from the projection in training",
        ),
        (
            "tensors(nn.Sequential(encoder, self.project)), self.tau)",
            "tensors(nn.Sequential(encoder, self.project)), 1 - self.tau)",
            "curl: the keys' encoder follows by the wrong share",
            "Laskin et al. 2020, eq. 4: theta_k = m theta_k + (1 - m) theta_q",
        ),
        (
            'read(data.get("augmented", data["obs"]))',
            'read(data["obs"])',
            "curl: queries are of the same pictures as keys",
        ),
    ),
    *_in(
        "agents/ops/losses.py",
        "tests/ops/test_losses.py",
        ("query_BF @ key_BF.t()", "key_BF @ query_BF.t()", "InfoNCE: keys look for queries"),
    ),
    *_in(
        "agents/algos/dqn/algorithm.py",
        "tests/algos/test_auxiliary.py",
        (
            'self.views = config.representation.auxiliary == "curl"',
            "self.views = False",
            "DQN with curl: queries and keys are of one picture",
        ),
        ("        self.model.copy_encoder()\n", "", "DQN with curl: keys stay as they were where weights are loaded"),
    ),
    *_in(
        "agents/algos/ppo/algorithm.py",
        "tests/algos/test_auxiliary.py",
        ("model.value_scale, model.auxiliary]", "model.value_scale]", "PPO: kernels leave the auxiliary loss out"),
    ),
    *_in(
        "agents/run/pretraining.py",
        "tests/run/test_pretraining.py",
        ("recorded.base, held, env, seed)", "held, held, env, seed)", "probes are fitted to what they are judged on"),
    ),
    *_in(
        "agents/run/probes.py",
        "tests/run/test_pretraining.py",
        (
            "                found.append(inner.state)\n                rewards.append(env.step(action)[1])",
            "                rewards.append(env.step(action)[1])\n                found.append(inner.state)",
            "probes: the state is the one after the step",
        ),
        ("data.env not in DYNAMICS or ", "", "probes: environments that data name are imported"),
    ),
    *_in(
        "agents/ops/probes.py",
        "tests/ops/test_probes.py",
        (
            "0.0 if i in ends else",
            "0.0 if i in ends and False else",
            "probes: rewards to come go on into the next episode",
        ),
        ("penalty * np.eye(len(x))", "np.eye(len(x))", "probes: wide features have another penalty"),
        (
            "held_x = (features - mean) / scale, (held_features - mean)",
            "held_x = (features - mean) / scale, (held_features - held_features.mean(0))",
            "probes: held-out rows are shifted by their own mean",
        ),
    ),
    *_in(
        "agents/algos/dqn/algorithm.py",
        "tests/algos/test_dqn.py",
        (
            "legal.to(discount.dtype).amax(-1)",
            "torch.ones_like(discount)",
            "DQN: illegal actions have a future",
        ),
    ),
    *_in(
        "agents/networks/models.py",
        "tests/algos/test_dqn.py",
        ("torch.where(mask.any(-1), best, 0)", "best", "PQN: a state without legal actions is worth -3e35"),
    ),
    *_in(
        "agents/networks/target.py",
        "tests/algos/test_dqn.py",
        (
            "others |= {id(getattr(model, name)): None for name in ASIDE if getattr(model, name, None) is not None}",
            "",
            "DQN: the target has a copy of its curiosity",
        ),
    ),
    *_in(
        "agents/data/dataset.py",
        "tests/run/test_imitation.py",
        (
            "if wanted is None else wanted",
            "if wanted is None else wanted | True",
            "dagger: what is no transition is learnt",
        ),
    ),
    *_in(
        "agents/core/algorithm.py",
        "tests/run/test_imitation.py",
        (
            "better = bool(found < self.lowest)",
            "better = loss < float(self.lowest)",
            "bc: rounding keeps it from ending",
        ),
    ),
    *_in(
        "agents/run/trees.py",
        "tests/run/test_replay_files.py",
        (
            "if (file := _chunk_file(folder, digest)).exists():",
            "if not (file := _part_file(folder, digest)):",
            "checkpoints: one writes into the one before",
        ),
    ),
    *_in(
        "agents/run/loops.py",
        "tests/run/test_loops.py",
        ("if len(healths) < 2 or result is None", "if True", "off-policy: only the last update of a round may diverge"),
    ),
    *_in(
        "agents/run/probes.py",
        "tests/run/test_pretraining.py",
        (
            "choices(ActionCodec(data.own_spaces[1]).space) or",
            "[int(x.max()) + 1 for x in action.T] or",
            "probes: actions that were not taken have no column",
        ),
    ),
    *_in(
        "agents/algos/ppo/algorithm.py",
        "tests/algos/test_ppo.py",
        ('clip_range, high, aux.get("valid"))', "clip_range, high)", "PPO: divergence counts what is no transition"),
    ),
    *_in(
        "agents/lab/export/c.py",
        "tests/lab/export/test_export.py",
        (
            '\'#include "policy.h"',
            "'#include \"' + str(path.resolve()) + '\"",
            "export: a path is compiled as C",
        ),
    ),
    *_in(
        "agents/lab/export/web.py",
        "tests/lab/export/test_export.py",
        ("NODE, str(path.resolve())]", "NODE, str(path)]", "export: a path is an option of node's"),
    ),
    *_in(
        "agents/run/yaml_files.py",
        "tests/run/test_hostile.py",
        ("if known[node][2] > MOST_BYTES:", "if False:", "settings: a long text is written out thousands of times"),
    ),
    *_in(
        "agents/run/code.py",
        "tests/run/test_trust.py",
        ("or _asks_much(given))", ")", "trust: a wrapper of Gymnasium's fills the memory"),
    ),
    *_in(
        "agents/run/storage.py",
        "tests/run/test_hostile.py",
        (
            "> most:\n        raise ValueError",
            "> 10**18:\n        raise ValueError",
            "JSON: endless lists are read",
        ),
    ),
    *_in(
        "agents/run/terminal.py",
        "tests/run/test_trust.py",
        ('re.sub(r"\\n(?=[^ \\n])", "\\n  ", visible(text))', "visible(text)", "names make lines of their own"),
    ),
    *_in(
        "envs/adapters/masks.py",
        "tests/envs/test_masks.py",
        (
            "self._without = bool(counts) and leaf is None",
            "self._without = False",
            "masks that come late are left out",
        ),
    ),
    *_in(
        "agents/core/by_numpy/arithmetic.py",
        "tests/core/test_numpy_program.py",
        (
            'value=_value, **__: [partial(np.copyto, out, value, casting="unsafe")]',
            "value=_value, **__: [partial(np.copyto, out, value)]",
            "by NumPy: flags that are made anew are refused",
        ),
    ),
    *_in(
        "agents/ops/values.py",
        "tests/ops/test_values.py",
        (
            "_log_softened(q_BA, temperature).gather(",
            "(-soft_policy(q_BA, temperature)[1] / temperature).gather(",
            "Munchausen: the worst actions, whose probabilities are 0 in float32, cost nothing",
            "arXiv:2007.14430, eq. 2",
        ),
        (
            "y = 2 * (x.abs() + 1 + epsilon) / (root + 1)",
            "y = (root - 1) / (2 * epsilon)",
            "values on the scale of Pohlen et al. lose 1e-4 at each backup",
        ),
    ),
    *_in(
        "agents/ops/losses.py",
        "tests/ops/test_losses.py",
        (
            "torch.where(valid_B, values_B, 0).sum()",
            "(values_B * valid_B).sum()",
            "what is said of dummies, infinity times 0, makes the loss NaN",
        ),
        ("kl > UNMOVED", "kl > 0", "desired_kl: rounding alone raises the learning rate at each rollout's first step"),
    ),
    *_in(
        "agents/networks/models.py",
        "tests/algos/test_ppo_details.py",
        (
            "return scale.normalized(value) if scale.preserves else before",
            "return scale.normalized(value)",
            "norm_value: what the scale moved counts as a move of the values that are clipped",
        ),
    ),
    *_in(
        "agents/networks/models.py",
        "tests/run/test_imitation.py",
        (
            "before_tanh(self.action_space, action) if",
            "before_tanh(spaces.Box(-1, 1), action) if",
            "bc: choices beside squashed numbers go through the inverse of tanh",
        ),
    ),
    *_in(
        "agents/algos/ppo/algorithm.py",
        "tests/algos/test_ppo_curiosity.py",
        (
            "continuing_gae(reward, value, last_value, *how, data.valid)",
            "continuing_gae(reward, value, next_value[-1], *how, data.valid)",
            "curiosity without episodes: after a time limit at the last tick the old episode goes on",
            "Burda et al. 2018, arXiv:1810.12894, sec. 2.3",
        ),
    ),
    *_in(
        "agents/run/imitation.py",
        "tests/run/test_offline.py",
        ("replay.cut()", "pass", "recorded episodes that a column breaks off go on into what the environment gives"),
    ),
    *_in(
        "agents/networks/soft.py",
        "tests/algos/test_sac.py",
        (
            "torch.cat([output, latent], dim=-1)",
            "torch.cat([output, latent.detach()], dim=-1)",
            "SAC's gSDE: features learn nothing from the deviation",
            "learn_features of SB3's SAC",
        ),
    ),
    *_in(
        "agents/algos/pqn/algorithm.py",
        "tests/networks/test_models.py",
        ("self.model.bring_bounds_up_to_date()", "pass", "PQN: bounds of layers are those of the rollout before"),
    ),
    *_in(
        "agents/algos/pqn/algorithm.py",
        "tests/algos/test_pqn.py",
        (
            "self.config.gamma, self.config.q_lambda)",
            "self.config.gamma, 1.0)",
            "PQN: lambda is 1, whatever is set",
            "Gallici et al. 2024, eq. 6",
        ),
        ("loss = 0.5 * mean((taken", "loss = mean((taken", "PQN: the loss is twice the paper's", "Gallici et al. 2024"),
    ),
    *_in(
        "agents/data/batch.py",
        "tests/data/test_samplers.py",
        (
            "weight=part.weight / part.weight.amax()",
            "weight=part.weight",
            "PER: weights depend on what is drawn beside",
        ),
    ),
    *_in(
        "agents/run/distil.py",
        "tests/run/test_distil.py",
        (
            "torch.where(legal.any(-1), teacher_q.amax(-1) - middle, 0.0)",
            "teacher_q.amax(-1) - middle",
            "distil: one step in which nothing is legal spoils the batch's temperature",
        ),
    ),
    *_in(
        "agents/run/run.py",
        "tests/run/test_seeing.py",
        (
            "step >= params.total_timesteps or self.monitor.may_evaluate",
            "self.monitor.may_evaluate",
            "of a short run a policy that had hardly learnt is the best one, as none after it was evaluated",
        ),
    ),
    *_in(
        "agents/lab/tuning/study.py",
        "tests/lab/tuning/test_study.py",
        ("_task(one) != _task(plan.name)", "False", "tune: a search of another algorithm writes over a folder's page"),
    ),
    *_in(
        "agents/run/play.py",
        "tests/smoke/test_watch_evaluate.py",
        ('os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")', "pass", "what draws does not end at SIGTERM"),
    ),
]
