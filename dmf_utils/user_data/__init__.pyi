from .completion import complete as complete
from .matrix import OwnMatrix as OwnMatrix, read_matrix as read_matrix
