"""Settings from where they are written to a `Config`: TOML, variables and flags, checked and described.

In layers, as the modules of `router` are:

    toml, values, checks, sources, settings, effective, reference
"""

from router.loading.sources import PREFIX as PREFIX
from router.loading.sources import RELOADABLE as RELOADABLE
from router.loading.sources import Flag as Flag
from router.loading.sources import Loaded as Loaded
from router.loading.sources import load as load
from router.loading.sources import reloadable_changes as reloadable_changes
