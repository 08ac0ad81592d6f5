"""Drawing one environment of our own: with Gymnasium's renderer of the same task, or from a picture we paint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import numpy as np


class Painter(Protocol):
    """Draws states; holds a window where there is one."""

    def paint(self, state: np.ndarray) -> np.ndarray | None:
        """Draw one state `[k]`: return uint8 `[H, W, 3]`, or None where it was shown in a window instead."""
        ...

    def close(self) -> None: ...


class GymnasiumPainter:
    """Gymnasium's environment `env_id`, set to what `pose(state)` says, which draws itself.

    Args:
        pose: gives the attributes of the environment that its renderer reads.
    """

    def __init__(self, env_id: str, render_mode: str, pose: Callable[[np.ndarray], dict[str, Any]]) -> None:
        self._env: gymnasium.Env = gymnasium.make(env_id, render_mode=render_mode, disable_env_checker=True).unwrapped
        self._pose = pose

    def paint(self, state: np.ndarray) -> np.ndarray | None:
        for name, value in self._pose(state).items():
            setattr(self._env, name, value)
        picture: Any = self._env.render()
        return picture

    def close(self) -> None:
        self._env.close()


class PicturePainter:
    """Pictures `picture(state)`, uint8 `[H, W, 3]`, returned or shown in a window `fps` times a second."""

    def __init__(self, picture: Callable[[np.ndarray], np.ndarray], render_mode: str, title: str, fps: int) -> None:
        self._picture = picture
        self._human = render_mode == "human"
        self._title = title
        self._fps = fps
        self._screen: Any = None
        self._clock: Any = None

    def paint(self, state: np.ndarray) -> np.ndarray | None:
        picture = self._picture(state)
        if not self._human:
            return picture
        import pygame

        columns_first = picture.swapaxes(0, 1)
        if self._screen is None:
            pygame.display.init()
            pygame.display.set_caption(self._title)
            self._screen = pygame.display.set_mode(columns_first.shape[:2])
            self._clock = pygame.time.Clock()
        pygame.surfarray.blit_array(self._screen, columns_first)
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._fps)
        return None

    def close(self) -> None:
        if self._screen is not None:
            import pygame

            pygame.display.quit()
            self._screen = None
