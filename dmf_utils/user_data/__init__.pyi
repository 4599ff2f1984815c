from .completion import complete as complete
from .matrix import ObservedMatrix as ObservedMatrix
from .reading import read_matrix as read_matrix
