from .base import low_rank_matrix as low_rank_matrix
from .completion import MatrixCompletion as MatrixCompletion
from .full_observation import FullObservation as FullObservation
from .sensing import MatrixSensing as MatrixSensing
