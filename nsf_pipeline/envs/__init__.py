"""PushT as Gymnasium environments, and the names under which `gymnasium.make` knows them.

`import nsf_pipeline` registers the names. Gymnasium is not imported for that: where it is not there
yet, they are registered as soon as something imports it.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

PUSHT = "nsf_pipeline/PushT-v0"
"""PushT in the simulator, exactly."""
LEARNED_PUSHT = "nsf_pipeline/LearnedPushT-v0"
"""PushT as a trained model has learnt it."""
MAX_STEPS = 300
"""Steps after which an episode is truncated, as in gym-pusht."""


def register() -> None:
    """Tell Gymnasium the names of the environments; what they need is imported when one is made."""
    import gymnasium

    gymnasium.register(
        PUSHT,
        entry_point="nsf_pipeline.envs.single:PushTEnv",
        vector_entry_point="nsf_pipeline.envs.vector:PushTVectorEnv",
        max_episode_steps=MAX_STEPS,
    )
    gymnasium.register(
        LEARNED_PUSHT,
        entry_point="nsf_pipeline.learned_envs.single:LearnedPushTEnv",
        vector_entry_point="nsf_pipeline.learned_envs.vector:LearnedPushTVectorEnv",
        max_episode_steps=MAX_STEPS,
    )


class _RegisterAfterImport:
    """Finds Gymnasium as Python does, and has the names registered when it has been imported."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "gymnasium":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            run = spec.loader.exec_module

            def run_and_register(module: Any) -> None:
                run(module)
                register()

            # Of this loader, which loads nothing else.
            setattr(spec.loader, "exec_module", run_and_register)  # noqa: B010
        return spec


def register_when_possible() -> None:
    """Register now if Gymnasium has been imported, and else as soon as it is.

    Importing Gymnasium takes longer than all that `import nsf_pipeline` does.
    """
    if "gymnasium" in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _RegisterAfterImport)
