from .descent import gradient_descent as gradient_descent
from .flow import gradient_flow as gradient_flow
from .optimizers import train as train
from .settings import Settings as Settings
from .trajectory import Record as Record, Status as Status, Trajectory as Trajectory
