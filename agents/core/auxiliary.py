"""Settings of what an encoder learns from observations alone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agents.core.settings import Settings


class AuxiliaryConfig(Settings):
    """What the encoder learns beside, from observations alone (`agents.networks.representation`)."""

    auxiliary: Literal["none", "autoencoder", "curl"] = Field(
        "none",
        description="let the encoder also learn to put observations together again, or (curl) to tell changed pictures "
        "apart, for which augment says how they are changed",
    )
    auxiliary_coef: float = Field(1.0, gt=0, description="weight of that loss")
    curl_tau: float = Field(
        0.05,
        gt=0,
        le=1,
        description="share of the encoder mixed into that of curl's keys after each update (a rollout is one)",
    )
