"""Settings of algorithms that learn from recorded episodes: which, and what becomes of their faults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from agents.core.settings import Settings

DataPath = Annotated[str, AfterValidator(lambda value: str(Path(value).absolute())), "FOLDER|FILE"]
RunPath = Annotated[str, AfterValidator(lambda value: str(Path(value).absolute())), "RUN"]


class DemonstratorConfig(Settings):
    """A policy of another run that this one is kept near to at first (Schmitt et al. 2018, arXiv:1803.03835)."""

    demonstrator: RunPath | None = Field(None, description="the run of a policy to stay near to at first")
    demonstrator_coef: float = Field(
        1.0, ge=0, description="weight of what keeps the policy near to the demonstrator, at the beginning"
    )
    demonstrator_fraction: float = Field(
        0.5, gt=0, le=1, description="part of the training over which that weight falls to 0"
    )

    def constants(self, progress: float) -> dict[str, float]:
        """Return that weight when `progress` (0 to 1) of the training is done; nothing without a demonstrator."""
        if self.demonstrator is None:
            return {}
        return {"demonstrator_coef": self.demonstrator_coef * max(1 - progress / self.demonstrator_fraction, 0.0)}

    def beside(self, memory: str | None) -> str | None:
        """Say why there is no demonstrator beside a network with such a memory; None where there may be one."""
        if self.demonstrator is None or memory is None:
            return None
        return "demonstrator is looked at one observation at a time, and memory needs all before: leave one out."


class MarginDemonstratorConfig(DemonstratorConfig):
    """A policy of another run whose actions are at first kept above others (Hester et al. 2018, arXiv:1704.03732)."""

    demonstrator_margin: float = Field(
        0.8, ge=0, description="how much more than all others the demonstrator's action is to be worth at first"
    )


class RecordedConfig(Settings):
    """Recorded episodes, and what becomes of those that have a fault."""

    data: DataPath | None = Field(
        None, description="recorded episodes to learn from: a Minari folder, .npz, .csv, or of replays/"
    )
    data_nan: Literal["refuse", "drop"] = Field("refuse", description="NaN or infinity; drop leaves its episodes out")
    data_bounds: Literal["keep", "clip", "drop", "refuse"] = Field("keep", description="numbers out of their bounds")
    data_broken: Literal["refuse", "drop", "keep"] = Field(
        "refuse", description="successors that are not the next observation"
    )
    data_duplicates: Literal["drop", "keep", "refuse"] = Field("drop", description="episodes that are there already")
    data_unended: Literal["keep", "drop", "refuse"] = Field("keep", description="episodes that break off")

    @property
    def rules(self) -> dict[str, str]:
        """What becomes of each fault, as `agents.data.inspection.cleaned` takes it."""
        return {
            name.removeprefix("data_"): rule for name, rule in self.model_dump().items() if name.startswith("data_")
        }


class HeldOutConfig(RecordedConfig):
    """Recorded episodes of which some are held out."""

    held_out: float = Field(0.2, ge=0, lt=1, description="share of the episodes that is never learnt from")


class OfflineConfig(RecordedConfig):
    """Recorded episodes that are replayed, instead of steps of the policy's own or before them."""

    required: ClassVar[bool] = False  # whether nothing is learnt without any
    online_fraction: float = Field(
        0.0, ge=0, lt=1, description="last part of the training, in which the policy acts too; 0 leaves env alone"
    )
