"""Hydra's side of the house: one yaml for each verb, whose schema is the verb's frozen dataclass.

Groups hold differences from the dataclass defaults only. `compose` is the door: behind it there are only dataclasses.
"""

from sparse_circuits.conf.compose import compose, config_class, sweep

__all__ = ["compose", "config_class", "sweep"]
