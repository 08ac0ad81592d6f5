# The one package that runs something on import: `gymnasium.make("envs.native:native/Bricks-v0")` imports no more than
# this package, and must find its environments registered.
import envs.native.gym_env  # noqa: F401
