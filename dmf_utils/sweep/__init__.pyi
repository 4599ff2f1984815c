from .cluster import Cluster as Cluster
from .run_parameters import DEFAULTS as DEFAULTS, grid as grid
from .table import (
    project_cache as project_cache,
    run_options as run_options,
    sweep as sweep,
    trajectory_table as trajectory_table,
)
from .table_files import read_provenance as read_provenance
