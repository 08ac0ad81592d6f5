"""What every algorithm's hyperparameters share. Field descriptions are the commands' `--help`.

A configuration is one frozen typed model with nested parts ("network", "replay", ...). Outside it is flat: files and
flags give each setting by its own name, which is unique in the whole configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from agents.core.settings import (
    Activation,
    Augmentations,
    Auto,
    Detail,
    Folder,
    GradNorm,
    OptimizerName,
    Own,
    PictureAxes,
    Schedule,
    Settings,
    Torsos,
    TorsoWidths,
    Widths,
    not_negative,
    positive,
)

MOST_EPISODES = 1_000_000  # of one evaluation, which keeps them all


class MemoryConfig(Settings):
    """What carries information from step to step."""

    memory: Literal["gru", "lstm", "scan", "gtrxl"] | Own | None = Field(
        None, description="what remembers earlier steps, perhaps a class of your own"
    )
    memory_size: int = Field(64, gt=0, description="numbers that the memory holds")
    memory_layers: int = Field(1, gt=0, description="memories one after the other")
    memory_window: int = Field(32, gt=1, description="steps that gtrxl looks at, the present one included")
    memory_heads: int = Field(4, gt=0, description="heads of gtrxl's attention")
    memory_horizon: int = Field(
        1000, gt=1, description="steps over which the slowest of scan's numbers forget at first"
    )

    def contradiction(self) -> str | None:
        if self.memory == "gtrxl" and self.memory_size % self.memory_heads:
            return (
                f"memory_size {self.memory_size} cannot be divided among memory_heads {self.memory_heads}: choose a "
                "multiple of it."
            )
        return super().contradiction()


class NetworkConfig(Settings):
    """What the networks are made of. Algorithms hand this to the model that they train, untouched."""

    encoder: Literal["auto", "nature", "small", "codes", "impala", "flat"] | Own = Field(
        "auto", description="what reads observations, perhaps a class of your own"
    )
    picture_axes: PictureAxes = Field(
        "auto",
        description="which axes of a Box are height and width of pictures, all others being channels; none for none",
    )
    text_encoder: Literal["auto", "transformer", "gru"] | Folder = Field(
        "auto",
        description="what reads texts and sequences; auto is transformer, and leaves MultiDiscrete one-hot, which the "
        "others read as symbols of one kind; a folder holds a sentence encoder for texts, which stays as it is",
    )
    recurrence: MemoryConfig = MemoryConfig()
    net_arch: Widths = Field((64, 64), description="widths of the hidden layers")
    activation: Activation = Field("tanh", description="hidden activation")
    norm_obs: bool = Field(False, description="normalise observations by their running mean and variance")


class SDEConfig(Settings):
    """Exploration that follows the state (gSDE; Raffin et al. 2022, arXiv:2005.05719)."""

    use_sde: bool = Field(
        False, description="noise of continuous actions follows the state, by a matrix drawn at times"
    )
    sde_sample_freq: int = Field(
        -1, ge=-1, description="steps of each environment after which that is drawn anew; -1 for once in a rollout"
    )


class ActorCriticConfig(NetworkConfig):
    """What a policy and a value function are made of."""

    net_arch: TorsoWidths = Field(  # type: ignore[assignment]
        (64, 64), description="widths of the hidden layers; pi=64,64 vf=128 for policy and value function apart"
    )
    shared_torso: bool = Field(False, description="one torso for policy and value function instead of two")
    ortho_init: bool = Field(True, description="orthogonal initialisation of the weights")
    norm_value: Literal["none", "running", "popart"] = Field(
        "none", description="learn values as multiples of the returns' deviation; popart keeps them as that changes"
    )
    norm_value_rate: float = Field(0.05, gt=0, le=1, description="how much each rollout counts in that deviation")
    log_std_init: float = Field(0.0, description="initial log standard deviation of continuous actions")
    state_dependent_std: bool = Field(False, description="let the network choose the deviation of continuous actions")
    squash_output: bool = Field(False, description="squash continuous actions with tanh and rescale them to the bounds")
    sde: SDEConfig = SDEConfig()

    @property
    def torsos(self) -> Torsos:
        """The widths for the policy and for the value function, which may be the same."""
        return self.net_arch if isinstance(self.net_arch, Torsos) else Torsos(pi=self.net_arch, vf=self.net_arch)

    def contradiction(self) -> str | None:
        if self.sde.use_sde and self.state_dependent_std:
            return (
                "use_sde learns how large the noise is by a matrix of its own, and state_dependent_std by the network: "
                "leave one of the two out."
            )
        if self.shared_torso and isinstance(self.net_arch, Torsos):
            return (
                "shared_torso makes one torso for policy and value function, but net_arch gives each its own widths: "
                "give net_arch as one list, or shared_torso as false."
            )
        return super().contradiction()


class QNetworkConfig(NetworkConfig):
    """What an action-value network is made of."""

    activation: Activation = Field("relu", description="hidden activation")
    layer_norm: bool = Field(False, description="normalise each hidden layer (LayerNorm)")
    spectral_norm: bool = Field(False, description="bound how much the last hidden layer can stretch (spectral norm)")
    dueling: bool = Field(False, description="streams of their own for the state's value and the actions' advantages")
    noisy: bool = Field(False, description="noisy linear layers in the head explore and learn how much")
    noisy_std: float = Field(0.5, gt=0, description="noise of noisy layers at the start")
    distribution: Literal["none", "c51", "qr", "iqn"] = Field(
        "none", description="learn the distribution of returns: c51 on fixed returns, qr and iqn by its quantiles"
    )
    n_atoms: int = Field(51, gt=1, description="returns that c51 gives probabilities to")
    v_min: float = Field(-100.0, description="least of them")
    v_max: float = Field(100.0, description="largest of them")
    n_quantiles: int = Field(32, gt=0, description="quantiles of qr and iqn")
    rescale_values: bool = Field(False, description="learn returns on a scale on which large ones are nearer")
    bcq_threshold: float = Field(
        0.0,
        ge=0,
        le=1,
        description="choose only actions that are this share as likely in the data as the likeliest (BCQ); 0 for any",
    )

    def contradiction(self) -> str | None:
        if self.rescale_values and self.distribution != "none":
            return f"rescale_values is for expected returns, and distribution {self.distribution} learns all of them."
        if self.spectral_norm and (self.noisy or not self.net_arch):
            what = "noisy makes that layer's weights random" if self.noisy else "net_arch is empty"
            return f"spectral_norm is for the last hidden layer, and {what}: leave one of the two out."
        if self.v_min >= self.v_max:
            return f"v_min {self.v_min:g} is not below v_max {self.v_max:g}: c51 learns returns between the two."
        return super().contradiction()


class SoftActorCriticConfig(NetworkConfig):
    """What a squashed policy and its critics of continuous actions are made of."""

    details: ClassVar[tuple[Detail, ...]] = (("use_sde", None, ("log_std_init",)),)
    net_arch: Widths = Field((256, 256), description="widths of the hidden layers")
    activation: Activation = Field("relu", description="hidden activation")
    n_critics: int = Field(2, gt=0, description="critics, each with weights of its own")
    truncated_quantiles: bool = Field(
        False, description="critics learn quantiles of the return, and targets leave out the largest (TQC)"
    )
    n_quantiles: int = Field(25, gt=1, description="quantiles that each critic learns")
    top_quantiles_to_drop_per_net: int = Field(2, ge=0, description="how many of them for each critic are left out")
    log_std_init: float = Field(-3.0, description="initial log standard deviation of the matrix of use_sde")
    sde: SDEConfig = SDEConfig()
    batch_norm: bool = Field(
        False, description="normalise the inputs of the critics' layers over batches, and go without target (CrossQ)"
    )

    def contradiction(self) -> str | None:
        dropped = self.top_quantiles_to_drop_per_net
        if self.truncated_quantiles and dropped >= self.n_quantiles:
            return (
                f"top_quantiles_to_drop_per_net {dropped} leaves none of n_quantiles {self.n_quantiles}: lower the "
                "first, or raise the second."
            )
        return super().contradiction()


class CuriosityConfig(Settings):
    """Rewards for what is new, beside the environment's."""

    curiosity: Literal["none", "rnd", "icm"] = Field(
        "none", description="reward what is new: rnd by a random network's outputs, icm by what actions lead to"
    )
    curiosity_coef: float = Field(0.5, gt=0, description="weight of its rewards; the environment's have 1")
    curiosity_share: float = Field(
        0.25, gt=0, le=1, description="share of each minibatch that its networks are trained on"
    )
    curiosity_loss_coef: float = Field(1.0, gt=0, description="weight of their loss")
    curiosity_arch: Widths = Field((128, 128), description="widths of their hidden layers")
    curiosity_size: int = Field(64, gt=0, description="features that are predicted")
    icm_beta: float = Field(0.2, ge=0, le=1, description="weight of predicting features; the rest is the actions'")


class ExplorationConfig(Settings):
    """How often a random action is taken (epsilon-greedy)."""

    exploration_fraction: float = Field(0.1, ge=0, le=1, description="part of the budget over which epsilon falls")
    exploration_initial_eps: float = Field(1.0, ge=0, le=1, description="epsilon at the start")
    exploration_final_eps: float = Field(0.05, ge=0, le=1, description="epsilon at the end")


class ObservationConfig(Settings):
    """What becomes of observations before a network sees them; it is saved with the model."""

    frame_stack: int = Field(1, gt=0, le=64, description="how many of an episode's last observations are seen together")
    on_nan: Literal["refuse", "fill"] = Field(
        "refuse", description="NaN in an observation: refuse ends the run, fill takes the episode's last value"
    )
    on_inf: Literal["refuse", "clip", "fill"] = Field(
        "refuse", description="infinity: clip takes the nearest number within the declared bounds"
    )
    on_bounds: Literal["keep", "refuse", "clip", "fill"] = Field(
        "keep", description="numbers outside of the declared bounds; keep leaves them as they are"
    )
    on_missing: Literal["refuse", "fill"] = Field("refuse", description="a Dict's array of floats that is not there")
    on_constant: Literal["keep", "refuse"] = Field(
        "keep", description="a number that does not change for 1,000 steps in any environment"
    )

    @property
    def arguments(self) -> dict[str, Any]:
        """What `envs.make.make` takes of it."""
        from envs.adapters.cleaning import Cleaning  # here, as --help is to come quickly

        rules = {name: value for name, value in self.model_dump().items() if name.startswith("on_")}
        return {"frame_stack": self.frame_stack, "cleaning": Cleaning(**rules)}

    def said(self) -> Iterator[str]:
        """Yield what is to be said of it as a run begins."""
        if self.frame_stack > 1:
            yield f"the last {self.frame_stack} observations of an episode are seen together (--frame-stack)"
        changed = self.model_dump(exclude_defaults=True)
        if rules := [f"{name} {rule}" for name, rule in changed.items() if name.startswith("on_")]:
            yield f"observations are cleaned: {', '.join(rules)}"

    @property
    def in_use(self) -> bool:
        """Whether observations are changed at all."""
        return self.arguments != ObservationConfig().arguments


class AlgoConfig(Settings):
    """Fields that every algorithm has; each algorithm adds its own."""

    total_timesteps: int = Field(100_000, gt=0, description="environment steps to train for")
    schedule_total: int | None = Field(
        None,
        gt=0,
        description="environment steps over which schedules (lin_X, epsilon) run, to stay at their end value after "
        "them; none for total_timesteps",
    )
    n_envs: int = Field(8, gt=0, description="environments stepped together")
    target_reward: float | None = Field(
        None, description="stop once an evaluation's mean return reaches this; none trains the whole budget"
    )
    eval_freq: Annotated[int | Auto, not_negative] = Field(
        "auto", description="environment steps between evaluations; 0 for none, auto for 20 in a run"
    )
    eval_share: Annotated[float | Auto | None, positive] = Field(
        "auto",
        description="an evaluation, but for the last, is left out where those before took more than this many times "
        "the steps trained; none leaves out none; auto is 1 where eval_freq is auto, else none",
    )
    eval_max_steps: Annotated[int | Auto | None, positive] = Field(
        "auto",
        description="steps after which an evaluation cuts an episode; none for no cut; auto cuts only where the "
        "environment has no time limit",
    )
    eval_episodes: int = Field(20, gt=0, le=MOST_EPISODES, description="episodes of each evaluation")
    final_eval_episodes: int = Field(
        100, ge=0, le=MOST_EPISODES, description="episodes of the last evaluation; 0 for none"
    )
    save_freq: int = Field(50_000, ge=0, description="environment steps between checkpoints; 0 saves only at the end")
    video_freq: int = Field(
        0, ge=0, description="environment steps between videos of the best policy so far, at evaluations; 0 for none"
    )
    record_every: int = Field(
        0, ge=0, description="environment steps between videos of the policy as it is then; 0 for none"
    )
    histogram_freq: int = Field(
        0,
        ge=0,
        description="environment steps between TensorBoard's histograms of parameters, gradients and actions; 0 for "
        "none",
    )
    learning_rate: Schedule = Field(3e-4, description="optimiser step size; lin_X falls linearly from X to 0")
    gamma: float = Field(0.99, ge=0, le=1, description="discount factor")
    clip_reward: bool = Field(
        False, description="learn from the sign of each reward, as is usual on Atari; scores stay those of the rewards"
    )
    max_grad_norm: GradNorm = 0.5
    optimizer: OptimizerName = Field("adam", description="optimiser")
    network: NetworkConfig = NetworkConfig()
    observations: ObservationConfig = ObservationConfig()
    augment: Augmentations = Field(
        (), description="how pictures are changed at random as they are learnt from; none for not"
    )

    @property
    def schedule_steps(self) -> int:
        """Environment steps over which schedules run."""
        return self.total_timesteps if self.schedule_total is None else self.schedule_total

    @property
    def rescales_action(self) -> bool:
        """Whether actions in [-1, 1] are mapped to the environment's bounds, rather than clipped to them."""
        return False


class RolloutConfig(AlgoConfig):
    """What algorithms that learn from rollouts share."""

    n_steps: int = Field(128, gt=0, description="steps of each environment in one rollout")


class EpochsConfig(RolloutConfig):
    """What algorithms share that go over each rollout several times, in minibatches."""

    batch_size: int = Field(256, gt=0, description="transitions in a minibatch")
    n_epochs: int = Field(4, gt=0, description="passes over each rollout")

    def contradiction(self) -> str | None:
        rollout = self.n_steps * self.n_envs
        if self.batch_size > rollout:
            return (
                f"batch_size {self.batch_size} is larger than a whole rollout of {rollout} transitions "
                f"(n_steps {self.n_steps} x n_envs {self.n_envs}): lower batch_size, or raise n_steps or n_envs."
            )
        return super().contradiction()


class ReplayConfig(Settings):
    """The store of transitions, and when they are learnt from."""

    buffer_size: int = Field(100_000, gt=0, description="transitions that the replay buffer holds")
    replay_storage: Literal["device", "memory", "disk"] = Field(
        "device",
        description="where they lie: with the network (device), in main memory, or in files in the run folder (disk)",
    )
    learning_starts: int = Field(1_000, ge=0, description="environment steps before the first update")
    train_freq: int = Field(4, gt=0, description="environment steps between rounds of updates")
    gradient_steps: int = Field(1, ge=-1, description="updates in a round; -1 for as many as steps were taken")
    n_step_returns: int = Field(1, gt=0, description="rewards summed before bootstrapping")
    prioritized_replay: bool = Field(False, description="draw transitions by how wrong their values were")
    prioritized_replay_alpha: float = Field(0.6, ge=0, le=1, description="how much that counts; 0 for uniform draws")
    prioritized_replay_beta0: float = Field(
        0.4, ge=0, le=1, description="how much of the bias is corrected at first; all of it at the end"
    )
    prioritized_replay_eps: float = Field(1e-6, gt=0, description="added to every error")
    sequence_length: int = Field(20, gt=0, description="steps of a sequence that a memory is trained on")
    burn_in: int = Field(0, ge=0, description="steps before them that only bring what is remembered up to date")
    prioritized_replay_eta: float = Field(
        0.9, ge=0, le=1, description="share of the largest error in the priority of a sequence; the rest is the mean's"
    )


class OffPolicyConfig(AlgoConfig):
    """What algorithms that learn from a replay buffer share."""

    n_envs: int = Field(1, gt=0, description="environments stepped together")
    batch_size: int = Field(64, gt=0, description="transitions in a minibatch")
    replay: ReplayConfig = ReplayConfig()

    @property
    def sample_size(self) -> int:
        """What is drawn for a minibatch: so many transitions or, with memory, sequences of as many together."""
        whole = self.batch_size // self.replay.sequence_length
        return max(whole, 1) if self.network.recurrence.memory else self.batch_size

    def contradiction(self) -> str | None:
        replay = self.replay
        sizes = {"batch_size": self.batch_size, "n_envs": self.n_envs, "learning_starts": replay.learning_starts}
        for name, size in sizes.items():
            if size > replay.buffer_size:
                return (
                    f"{name} {size} is larger than the buffer (buffer_size {replay.buffer_size}): "
                    f"lower {name}, or raise buffer_size."
                )
        rows = replay.buffer_size // self.n_envs
        held = (
            f"the {rows} steps of each environment that the buffer holds (buffer_size {replay.buffer_size}, "
            f"n_envs {self.n_envs})"
        )
        if replay.n_step_returns > rows:
            more = f"n_step_returns {replay.n_step_returns} is more than {held}"
            return f"{more}: lower n_step_returns, or raise buffer_size."
        if self.network.recurrence.memory:
            whole = replay.burn_in + replay.sequence_length
            together = f"burn_in {replay.burn_in} and sequence_length {replay.sequence_length}"
            if replay.n_step_returns > replay.sequence_length:
                return (
                    f"n_step_returns {replay.n_step_returns} is more than the steps that a memory is trained on "
                    f"together (sequence_length {replay.sequence_length}): lower it, or raise sequence_length."
                )
            if whole > rows:
                return f"{together} are more than {held}: lower them, or raise buffer_size."
            if whole * self.n_envs > replay.learning_starts:
                return (
                    f"{together} take {whole * self.n_envs} steps of n_envs {self.n_envs} environments, and "
                    f"learning_starts {replay.learning_starts} is before that: raise learning_starts."
                )
        return super().contradiction()
