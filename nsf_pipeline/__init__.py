"""A conditional Neural Stochastic Flow on PushT: data, training and evaluation."""

from typing import Any

from nsf_pipeline.envs import register_when_possible

__version__ = "0.1.0"
__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    # Imported on first use: the simulator's jobs start without JAX.
    if name == "load_model":
        from nsf_pipeline.model import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_when_possible()
